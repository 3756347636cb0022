//! The description of the API in OpenAPI 3.1, made from the table of routes and the types that they answer with.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use datamesh_core::bucket::Access;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::http::Face;
use crate::http::answer::ProblemView;
use crate::http::events::{MeshEvent, TransfersEvent};
use crate::http::table::{ANY, Answer, Place, Route};
use crate::http::token::Need;

pub(super) async fn get(State(face): State<Face>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], face.0.openapi.clone())
}

/// The description of these routes.
pub(super) fn document(routes: &[Route]) -> String {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let problem = schema_of::<ProblemView>(&mut generator);
    // What events carry stands in no answer of its own.
    for of_event in [schema_of::<MeshEvent>, schema_of::<TransfersEvent>] {
        of_event(&mut generator);
    }
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for route in routes {
        let path = route.path.replace("{*", "{");
        let operation = operation(route, &path, &problem, &mut generator);
        paths.entry(path).or_default().insert(route.method.as_str().to_lowercase(), operation);
    }
    let schemas = Value::Object(generator.take_definitions(true));
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "DataMesh gateway",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Objects in a mesh, and how the mesh stands. Sizes are bytes, durations seconds, ids text. \
                            What goes wrong is told as {\"error\":{\"kind\",\"message\",\"hint\"}}.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "ID.SECRET: an access key of the gateway's buckets.",
                },
            },
        },
    });
    document.to_string()
}

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

fn operation(route: &Route, path: &str, problem: &Value, generator: &mut SchemaGenerator) -> Value {
    let in_path =
        path.split('{').skip(1).filter_map(|part| part.split('}').next()).map(
            |name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }),
        );
    let others = route.parameters.iter().map(|parameter| {
        let place = match parameter.place {
            Place::Query => "query",
            Place::Header => "header",
        };
        json!({ "name": parameter.name, "in": place, "description": parameter.text, "schema": { "type": "string" } })
    });
    let parameters: Vec<Value> = in_path.chain(others).collect();
    let mut responses: Map<String, Value> = Map::new();
    for answer in &route.answers {
        let described = response(answer, generator);
        match responses.get_mut(&answer.status.to_string()) {
            // One status may come with several media types.
            Some(first) => {
                let others = described["content"].as_object().cloned().unwrap_or_default();
                first["content"]
                    .as_object_mut()
                    .into_iter()
                    .for_each(|content| content.extend(others.clone()));
            }
            None => drop(responses.insert(answer.status.to_string(), described)),
        }
    }
    let described = json!({
        "description": "why it is not met",
        "content": { "application/json": { "schema": problem } },
    });
    responses.insert("default".to_owned(), described);
    let (secured, needed) = match route.need {
        Need::Nothing => (json!([]), "No token is needed."),
        Need::Everywhere(Access::Read) => (token(), "Needs a token that may read in every bucket."),
        Need::Everywhere(Access::Write) => (token(), "Needs a token that may write in every bucket."),
        Need::Everywhere(Access::Own) => (token(), "Needs a token that owns every bucket."),
        Need::InBucket(Access::Read) => (token(), "Needs a token that may read in the bucket."),
        Need::InBucket(Access::Write) => (token(), "Needs a token that may write in the bucket."),
        Need::InBucket(Access::Own) => (token(), "Needs a token that owns the bucket."),
    };
    let mut operation = json!({
        "summary": route.summary,
        "description": needed,
        "operationId": operation_id(route, path),
        "tags": [tag(path)],
        "parameters": parameters,
        "responses": responses,
        "security": secured,
    });
    if let (Some(media_type), Some(fields)) = (route.body, operation.as_object_mut()) {
        let schema = json!({ "type": "string", "format": "binary" });
        let body = json!({ "required": true, "content": { media_type: { "schema": schema } } });
        fields.insert("requestBody".to_owned(), body);
    }
    operation
}

fn token() -> Value {
    json!([{ "token": [] }])
}

fn response(answer: &Answer, generator: &mut SchemaGenerator) -> Value {
    let Some(media_type) = answer.media_type else { return json!({ "description": answer.text }) };
    let schema = match answer.schema {
        Some(make) => make(generator).to_value(),
        // What may be of any type may be JSON, and no text then.
        None if media_type == ANY => json!({}),
        None => json!({ "type": "string" }),
    };
    json!({ "description": answer.text, "content": { media_type: { "schema": schema } } })
}

fn operation_id(route: &Route, path: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let words: String = path.trim_start_matches("/api/v1").chars().map(plain).collect();
    let words: Vec<&str> = words.split('_').filter(|word| !word.is_empty()).collect();
    format!("{}_{}", route.method.as_str().to_lowercase(), words.join("_"))
}

fn tag(path: &str) -> &str {
    let bare = path.strip_prefix("/api/v1/").unwrap_or("");
    match bare.split('/').next().unwrap_or_default() {
        tag @ ("objects" | "uploads" | "buckets") => tag,
        "transfers" | "events" => "transfers",
        "peers" | "health" | "repairs" | "alerts" | "traffic" | "metrics.json" => "mesh",
        _ if path.starts_with("/ipfs") => "ipfs",
        _ => "gateway",
    }
}
