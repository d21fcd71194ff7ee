//! Commands about environments and services as calls.

use std::time::Duration;

use protocol::Value;
use protocol::command::name;
use protocol::runtime::{BindEnvironment, CreateEnvironment, EnvironmentRow, ListServices, OfService, Services};

use super::{Client, Error, Repeat};

impl Client {
    /// Makes an environment. Again with the same changes nothing.
    pub async fn create_environment(&self, create: &CreateEnvironment) -> Result<EnvironmentRow, Error> {
        self.call(name::ENVIRONMENT_CREATE, create, Repeat::Safe, Duration::ZERO).await
    }

    /// Lets a tenant use an environment.
    pub async fn bind_environment(&self, bind: &BindEnvironment) -> Result<Value, Error> {
        self.call(name::ENVIRONMENT_BIND, bind, Repeat::Safe, Duration::ZERO).await
    }

    /// Services of the tenant, and the environments it may use.
    pub async fn services(&self, list: &ListServices) -> Result<Services, Error> {
        self.call(name::SERVICE_LIST, list, Repeat::Safe, Duration::ZERO).await
    }

    /// Lets a rollout or a service go on. Said twice it may resume two pauses.
    pub async fn resume_service(&self, of: &OfService) -> Result<Value, Error> {
        self.call(name::SERVICE_RESUME, of, Repeat::Never, Duration::ZERO).await
    }

    /// Lets what is held come again.
    pub async fn unhold_service(&self, of: &OfService) -> Result<Value, Error> {
        self.call(name::SERVICE_UNHOLD, of, Repeat::Safe, Duration::ZERO).await
    }
}
