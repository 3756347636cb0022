//! A route as a row of a table: its path, who may ask, what it takes and answers, and what handles it.

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::routing::{MethodFilter, MethodRouter, on};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::http::Face;
use crate::http::token::{Need, check};
use crate::spans;

/// Whatever media type.
pub(super) const ANY: &str = "*/*";

/// One route.
pub(super) struct Route {
    pub(super) method: Method,
    /// As axum has it: `{name}` is one segment, `{*name}` all that follow.
    pub(super) path: &'static str,
    pub(super) need: Need,
    pub(super) summary: &'static str,
    pub(super) parameters: Vec<Parameter>,
    /// The media type of the body that it takes.
    pub(super) body: Option<&'static str>,
    pub(super) answers: Vec<Answer>,
    handler: MethodRouter<Face>,
}

/// What a route may be told beside its path.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) place: Place,
    pub(super) text: &'static str,
}

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Query,
    Header,
}

/// What a route answers.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) text: &'static str,
    pub(super) media_type: Option<&'static str>,
    pub(super) schema: Option<fn(&mut SchemaGenerator) -> Schema>,
}

impl Route {
    pub(super) fn new<H, T>(
        method: Method,
        path: &'static str,
        need: Need,
        summary: &'static str,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Face>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).expect("a method of the table is a usual one");
        let handler = on(filter, handler);
        Self { method, path, need, summary, parameters: Vec::new(), body: None, answers: Vec::new(), handler }
    }

    pub(super) fn query(mut self, name: &'static str, text: &'static str) -> Self {
        self.parameters.push(Parameter { name, place: Place::Query, text });
        self
    }

    pub(super) fn header(mut self, name: &'static str, text: &'static str) -> Self {
        self.parameters.push(Parameter { name, place: Place::Header, text });
        self
    }

    pub(super) const fn takes(mut self, media_type: &'static str) -> Self {
        self.body = Some(media_type);
        self
    }

    /// Answers with JSON of this type.
    pub(super) fn answers<T: JsonSchema>(mut self, status: u16, text: &'static str) -> Self {
        let schema: fn(&mut SchemaGenerator) -> Schema = SchemaGenerator::subschema_for::<T>;
        self.answers.push(Answer {
            status,
            text,
            media_type: Some("application/json"),
            schema: Some(schema),
        });
        self
    }

    /// Answers with bytes of a media type.
    pub(super) fn gives(mut self, status: u16, media_type: &'static str, text: &'static str) -> Self {
        self.answers.push(Answer { status, text, media_type: Some(media_type), schema: None });
        self
    }

    /// Answers without a body.
    pub(super) fn says(mut self, status: u16, text: &'static str) -> Self {
        self.answers.push(Answer { status, text, media_type: None, schema: None });
        self
    }

    /// Adds the route to a router, behind the check of what it needs.
    pub(super) fn add_to(self, router: Router<Face>, face: &Face) -> Router<Face> {
        let state = (face.clone(), self.need);
        let (method, path) = (self.method, self.path);
        let note = from_fn(move |request: Request, next: Next| {
            spans::routed(&method, path);
            next.run(request)
        });
        let handler = self.handler.route_layer(from_fn_with_state(state, check)).route_layer(note);
        router.route(path, handler)
    }
}
