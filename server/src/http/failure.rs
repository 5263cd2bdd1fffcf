//! Why a request was not done: one type for every endpoint, written as text on the first Taba's paths and
//! as a JSON object under `/v2`.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::metrics::Refusal;
use crate::store::StoreError;

/// What 503 says; the first Taba's words.
const AT_CAPACITY: &str = "Service is temporarily at capacity. Retry later.";

/// Why a request was not done.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The status of the answer.
    pub status: StatusCode,
    /// A fixed word for programs.
    pub code: &'static str,
    /// A sentence for people.
    pub message: String,
    /// The limit that was hit, if that is why.
    pub refusal: Option<Refusal>,
}

impl Failure {
    /// A failure with a status, a word for programs and a sentence for people.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), refusal: None }
    }

    /// 400: a parameter is unknown or malformed.
    #[must_use]
    pub fn bad_parameter(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_parameter", message)
    }

    /// 400: the body cannot be read; nothing of it was stored.
    #[must_use]
    pub fn bad_body(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_body", message)
    }

    /// 404: nothing is there.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// 413: a limit on size.
    #[must_use]
    pub fn too_large(refusal: Refusal, message: impl Into<String>) -> Self {
        let mut failure = Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message);
        failure.refusal = Some(refusal);
        failure
    }

    /// 503: a limit on how much is under way; nothing was stored.
    #[must_use]
    pub fn at_capacity(refusal: Refusal) -> Self {
        let mut failure = Self::new(StatusCode::SERVICE_UNAVAILABLE, "at_capacity", AT_CAPACITY);
        failure.refusal = Some(refusal);
        failure
    }

    /// What a store error means to a client: nothing was acknowledged.
    #[must_use]
    pub fn from_store(error: &StoreError) -> Self {
        match error {
            StoreError::Full { .. } => Self::at_capacity(Refusal::Store),
            StoreError::StaleSequence { .. } => {
                Self::new(StatusCode::CONFLICT, "stale_sequence", error.to_string())
            }
            StoreError::Unavailable { .. } | StoreError::Fenced(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", AT_CAPACITY)
            }
            StoreError::Corrupt { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "corrupt", error.to_string())
            }
        }
    }

    /// Rewrites the answer's body as a JSON object, for the paths under `/v2`. Its headers stay, such as
    /// `Allow`.
    pub fn rewrite(&self, response: &mut Response) {
        let body = ErrorBody { error: ErrorDetail { code: self.code, message: &self.message } };
        let body = serde_json::to_string(&body).expect("two strings are always JSON");
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *response.body_mut() = body.into();
    }
}

impl IntoResponse for Failure {
    /// Text; the layer over `/v2` finds the failure among the extensions and writes it as JSON.
    fn into_response(self) -> Response {
        let mut response = (self.status, format!("{}\n", self.message)).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// The body of every error under `/v2`.
#[derive(Serialize, ToSchema)]
pub struct ErrorBody<'a> {
    /// What went wrong.
    #[schema(inline)]
    pub error: ErrorDetail<'a>,
}

/// What went wrong.
#[derive(Serialize, ToSchema)]
pub struct ErrorDetail<'a> {
    /// A fixed word for programs, such as `bad_parameter`.
    pub code: &'a str,
    /// A sentence for people.
    pub message: &'a str,
}
