//! Follows one streaming answer from the first byte to `[DONE]`.

use reqwest::Response;

use super::error::ClientError;
use super::sse::{SseParser, StreamEvent};

/// Call `chunk` with each event until the answer is complete.
///
/// # Errors
/// The stream breaks, ends early, or carries an error.
pub(crate) async fn follow(
    mut response: Response,
    mut chunk: impl FnMut(StreamEvent),
) -> Result<(), ClientError> {
    let mut parser = SseParser::default();
    let mut outcome: Option<Result<(), ClientError>> = None;
    let url = response.url().to_string();
    while outcome.is_none() {
        let bytes = response.chunk().await.map_err(|error| ClientError::from_transport(&url, &error))?;
        let Some(bytes) = bytes else { return Err(ClientError::Truncated) };
        parser.push(&bytes, |data| {
            if outcome.is_none() {
                match StreamEvent::parse(data) {
                    Ok(StreamEvent::Done) => outcome = Some(Ok(())),
                    Ok(StreamEvent::Error(message)) => outcome = Some(Err(ClientError::Event(message))),
                    Ok(event) => chunk(event),
                    Err(error) => outcome = Some(Err(ClientError::Malformed(error))),
                }
            }
        });
    }
    outcome.unwrap_or(Ok(()))
}
