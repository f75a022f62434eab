//! One row for each request, in PostgreSQL: written in batches off the request path, kept on disk while the database is away.
