-- One row for each request. Never updated: the primary key, made by the head that took the request, is what makes
-- delivering a row twice harmless.
CREATE TABLE usage_entries (
    id                 uuid PRIMARY KEY, -- version 7: rises with time, so the index grows at its end
    request_id         text NOT NULL,
    consumer           text NOT NULL,
    model              text NOT NULL,
    route              text NOT NULL,
    worker             text,             -- null: no worker was asked
    prompt_tokens      bigint,           -- null: not known, as when a request was refused
    cached_tokens      bigint,
    completion_tokens  bigint,
    status             integer NOT NULL, -- HTTP
    outcome            text NOT NULL,    -- finished, aborted (the client left), failed, refused
    received_at        timestamptz NOT NULL,
    first_byte_seconds double precision, -- null: there was none
    duration_seconds   double precision NOT NULL
);

CREATE INDEX usage_entries_by_time ON usage_entries (received_at);
CREATE INDEX usage_entries_by_consumer ON usage_entries (consumer, received_at);
CREATE INDEX usage_entries_by_model ON usage_entries (model, received_at);

-- By day (UTC), consumer and model: what `vlinders usage` shows.
CREATE VIEW usage_daily AS
SELECT (received_at AT TIME ZONE 'UTC')::date AS day,
       consumer,
       model,
       count(*) AS requests,
       count(*) FILTER (WHERE outcome = 'aborted') AS aborted,
       count(*) FILTER (WHERE outcome = 'failed') AS failed,
       count(*) FILTER (WHERE outcome = 'refused') AS refused,
       coalesce(sum(prompt_tokens), 0)::bigint AS prompt_tokens,
       coalesce(sum(cached_tokens), 0)::bigint AS cached_tokens,
       coalesce(sum(completion_tokens), 0)::bigint AS completion_tokens
FROM usage_entries
GROUP BY 1, 2, 3;
