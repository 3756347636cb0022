//! What posts to web addresses: over TLS with the certificates that the system trusts, and never elsewhere than it was told.

use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

/// One whose requests may take this long each.
pub(crate) fn agent(deadline: Duration) -> Agent {
    // The provider that the rest of the program has.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(provider)
        .build();
    Agent::config_builder()
        .tls_config(tls)
        .timeout_global(Some(deadline))
        .http_status_as_error(false)
        .max_redirects(0)
        .user_agent(concat!("datamesh/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent()
}
