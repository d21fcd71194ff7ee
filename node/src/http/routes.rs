//! The table: which request is which command, and what scope it takes.
//!
//! A route names all that there is to it, so that this page is the door's documentation; a test holds
//! this crate's README to it.

use std::fmt;

use actors::runtime::{decommission, removal};
use protocol::command::name;

/// One route.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path below [`BASE`]. What stands in braces is a field of the command.
    pub path: &'static str,
    /// What it is about: the middle of its scope.
    pub area: &'static str,
    /// The command.
    pub command: &'static str,
    /// How the command's body is made of the request.
    pub shape: Shape,
}

/// A method of HTTP that the door knows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs, reason = "they say what they are")]
pub enum Method {
    Get,
    Post,
    Put,
    Delete,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        })
    }
}

/// Before every path.
pub const BASE: &str = "/v1/runtime";

/// How a command's body is made of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// The fields of path, query and body together.
    Fields,
    /// The same; a plan must not name a preview, because naming one applies it.
    Plan,
    /// The same; it must name the preview that is to be applied.
    Apply,
    /// The body is one field of this name.
    Whole(&'static str),
    /// The start of a deployment of this kind; path and body are its input, the idempotency key its
    /// name. It is answered once it is accepted.
    Deployment(&'static str),
    /// The start of the saga of this definition; the path is its input, and all else as with a deployment.
    Removal(&'static str),
    /// The same as fields, and the idempotency key is the `id` of what is kept.
    Keyed,
}

impl Route {
    /// Whether it changes anything.
    pub fn writes(&self) -> bool {
        self.method != Method::Get && self.shape != Shape::Plan
    }

    /// The scope that it takes.
    pub fn scope(&self) -> String {
        let right = if self.writes() { "write" } else { "read" };
        format!("runtime.{}.{right}", self.area)
    }
}

const fn route(method: Method, path: &'static str, area: &'static str, command: &'static str) -> Route {
    Route { method, path, area, command, shape: Shape::Fields }
}

const fn shaped(mut route: Route, shape: Shape) -> Route {
    route.shape = shape;
    route
}

const GET: Method = Method::Get;
const POST: Method = Method::Post;
const PUT: Method = Method::Put;
const DELETE: Method = Method::Delete;

const ENVIRONMENTS: &str = "environments";
const DEPLOYMENTS: &str = "deployments";
const CONFIGURATIONS: &str = "configurations";
const SECRETS: &str = "secrets";
const HEALTH: &str = "health";
const SCALING: &str = "scaling";
const DRIFT: &str = "drift";
/// Who decides about changes of production; kept apart from who may make them.
const DECISIONS: &str = "decisions";

macro_rules! of_environment {
    ($rest:literal) => {
        concat!("/environments/{environment}", $rest)
    };
}
macro_rules! of_service {
    ($rest:literal) => {
        concat!("/environments/{environment}/services/{service}", $rest)
    };
}

/// All routes.
pub const ROUTES: [Route; 44] = [
    route(GET, "/environments", ENVIRONMENTS, name::ENVIRONMENT_LIST),
    route(POST, "/environments", ENVIRONMENTS, name::ENVIRONMENT_CREATE),
    shaped(
        route(DELETE, of_environment!(""), ENVIRONMENTS, name::SAGA_START),
        Shape::Removal(decommission::DEFINITION),
    ),
    route(PUT, of_environment!("/tenants/{tenant}"), ENVIRONMENTS, name::ENVIRONMENT_BIND),
    shaped(route(POST, of_environment!("/plan"), ENVIRONMENTS, name::ENVIRONMENT_PROVISION), Shape::Plan),
    shaped(route(POST, of_environment!("/apply"), ENVIRONMENTS, name::ENVIRONMENT_PROVISION), Shape::Apply),
    route(GET, "/services", DEPLOYMENTS, name::SERVICE_LIST),
    route(GET, "/deployments/{key}", DEPLOYMENTS, name::SAGA_DESCRIBE),
    shaped(route(POST, of_service!("/deployments"), DEPLOYMENTS, name::SAGA_START), Shape::Deployment("deploy")),
    shaped(route(POST, of_service!("/rollbacks"), DEPLOYMENTS, name::SAGA_START), Shape::Deployment("restore")),
    shaped(route(DELETE, of_service!(""), DEPLOYMENTS, name::SAGA_START), Shape::Removal(removal::DEFINITION)),
    route(POST, of_service!("/drain"), DEPLOYMENTS, name::SERVICE_DRAIN),
    route(POST, of_service!("/pause"), DEPLOYMENTS, name::SERVICE_PAUSE),
    route(POST, of_service!("/restart"), DEPLOYMENTS, name::SERVICE_RESTART),
    route(POST, of_service!("/resume"), DEPLOYMENTS, name::SERVICE_RESUME),
    route(POST, of_service!("/unhold"), DEPLOYMENTS, name::SERVICE_UNHOLD),
    route(GET, of_service!("/configurations"), CONFIGURATIONS, name::CONFIGURATION_LIST),
    route(GET, of_service!("/configurations/{version}"), CONFIGURATIONS, name::CONFIGURATION_SHOW),
    shaped(
        route(POST, of_service!("/configurations"), CONFIGURATIONS, name::CONFIGURATION_PUBLISH),
        Shape::Whole("entries"),
    ),
    route(GET, of_environment!("/secrets"), SECRETS, name::SECRET_LIST),
    shaped(route(PUT, of_environment!("/secrets/{secret}"), SECRETS, name::SECRET_PUT), Shape::Keyed),
    route(DELETE, of_environment!("/secrets/{secret}"), SECRETS, name::SECRET_REMOVE),
    route(POST, of_environment!("/secrets/{secret}/rotate"), SECRETS, name::SECRET_ROTATE),
    route(PUT, of_environment!("/secrets/{secret}/services/{service}"), SECRETS, name::SECRET_BIND),
    route(DELETE, of_environment!("/secrets/{secret}/services/{service}"), SECRETS, name::SECRET_UNBIND),
    route(GET, of_service!("/logs"), DEPLOYMENTS, name::SERVICE_LOGS),
    route(GET, of_service!("/health"), HEALTH, name::SERVICE_HEALTH),
    route(GET, "/incidents", HEALTH, name::INCIDENT_LIST),
    route(GET, of_service!("/incident"), HEALTH, name::INCIDENT_SHOW),
    route(DELETE, of_service!("/incident"), HEALTH, name::INCIDENT_CLOSE),
    route(GET, "/scaling-policies", SCALING, name::SCALING_LIST),
    shaped(route(PUT, of_service!("/scaling-policy"), SCALING, name::SCALING_APPLY), Shape::Whole("policy")),
    route(DELETE, of_service!("/scaling-policy"), SCALING, name::SCALING_REMOVE),
    route(GET, of_service!("/scaling-decisions"), SCALING, name::SCALING_DECISIONS),
    route(PUT, of_service!("/replicas"), SCALING, name::SERVICE_SCALE),
    route(GET, "/drift", DRIFT, name::DRIFT_LIST),
    route(POST, of_environment!("/drift/{finding}/approve"), DRIFT, name::DRIFT_APPROVE),
    route(POST, of_environment!("/drift/{finding}/accept"), DRIFT, name::DRIFT_ACCEPT),
    route(POST, of_service!("/drift/remediate"), DRIFT, name::DRIFT_REMEDIATE),
    route(GET, of_environment!("/drift-policy"), DRIFT, name::DRIFT_POLICY),
    route(PUT, of_environment!("/drift-policy"), DRIFT, name::DRIFT_SET_POLICY),
    route(GET, of_environment!("/drift"), DRIFT, name::DRIFT_LIST),
    route(GET, "/decisions", DECISIONS, name::DECISION_LIST),
    route(POST, "/decisions/{decision}/approve", DECISIONS, name::DECISION_APPROVE),
];
