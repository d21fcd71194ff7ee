//! Which service a request means.

use hyper::Uri;
use hyper::header::{HOST, HeaderMap};

/// What a request means.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    /// The service.
    pub service: String,
    /// The path and query for it.
    pub path: String,
    /// What was cut off the path.
    pub prefix: Option<String>,
}

impl Target {
    /// Of a request in `environment`. A host name that begins with `SERVICE.ENVIRONMENT` decides,
    /// as in `orders.prod.example.org`; else the first part of the path does, as in
    /// `/orders/42`, which the service sees as `/42`.
    pub fn of(uri: &Uri, headers: &HeaderMap, environment: &str) -> Option<Self> {
        let whole = uri.path_and_query().map_or("/", |path| path.as_str());
        let host = uri.host().or_else(|| headers.get(HOST).and_then(|host| host.to_str().ok())).unwrap_or_default();
        let host = host.split(':').next().unwrap_or_default().to_ascii_lowercase();
        let mut labels = host.split('.');
        if let (Some(service), Some(second)) = (labels.next(), labels.next())
            && second == environment
            && !service.is_empty()
        {
            return Some(Self { service: service.to_owned(), path: whole.to_owned(), prefix: None });
        }
        let rest = whole.strip_prefix('/')?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (service, path) = rest.split_at(end);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let prefix = Some(format!("/{service}"));
        (!service.is_empty()).then(|| Self { service: service.to_owned(), path, prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(host: &str, path: &str) -> Option<(String, String)> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        Target::of(&path.parse().unwrap(), &headers, "prod").map(|target| (target.service, target.path))
    }

    #[test]
    fn the_host_decides_and_else_the_path() {
        let means = |service: &str, path: &str| Some((service.to_owned(), path.to_owned()));
        assert_eq!(target("orders.prod.example.org:8080", "/pay/1?x=/2"), means("orders", "/pay/1?x=/2"));
        assert_eq!(target("Orders.PROD", "/"), means("orders", "/"));
        assert_eq!(target("127.0.0.1:8080", "/orders/42?x=1"), means("orders", "/42?x=1"));
        assert_eq!(target("orders.test", "/billing?x=1"), means("billing", "/?x=1"));
        assert_eq!(target("localhost", "/orders"), means("orders", "/"));
        assert_eq!(target("localhost", "/"), None);
    }
}
