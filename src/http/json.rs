//! Answers that are JSON: what publishers and administrators get.

use crate::metrics::JSON;
use crate::nginx::request::{Outcome, Request};
use serde_json::json;

/// Answers with this status and JSON text; further headers are set by the caller.
pub fn answer(request: &Request, status: u16, body: &str) -> Outcome {
    request.set_status(status);
    request.answer(JSON, body.as_bytes())
}

/// `{"error":"one sentence"}`
pub fn error(request: &Request, status: u16, why: &str) -> Outcome {
    answer(request, status, &json!({ "error": why }).to_string())
}
