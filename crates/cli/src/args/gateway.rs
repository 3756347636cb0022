//! Arguments of the commands about the gateway and who may use it.

use core::str::FromStr;

use clap::{Args, Subcommand};
use datamesh_core::bucket::{Access, BucketName, Grant};
use datamesh_node::settings::Override;

use crate::args::json;
use crate::args::value::setting;

/// What stands for every bucket in a grant.
const EVERY_BUCKET: &str = "*";

/// Arguments of `gateway`.
#[derive(Debug, Args)]
#[command(after_long_help = json::GATEWAY)]
pub struct GatewayArgs {
    /// Address to listen on [setting: gateway.listen]
    #[arg(long, value_name = "IP:PORT", value_parser = setting("gateway.listen"))]
    pub listen: Option<Override>,
    /// Domain of which buckets are subdomains [setting: gateway.domain]
    #[arg(long, value_name = "DOMAIN", value_parser = setting("gateway.domain"), hide_possible_values = true)]
    pub domain: Option<Override>,
}

impl GatewayArgs {
    /// The settings that its flags override.
    #[must_use]
    pub fn overrides(&self) -> Vec<Override> {
        [&self.listen, &self.domain].into_iter().flatten().cloned().collect()
    }
}

/// Arguments of every command that runs nodes: whether a gateway runs beside them.
#[derive(Debug, Args)]
pub struct BesideArgs {
    /// Run a gateway too, at this address [settings: gateway.with_node, gateway.listen]
    #[arg(long, value_name = "IP:PORT", num_args = 0..=1, value_parser = setting("gateway.listen"))]
    pub gateway: Option<Option<Override>>,
    /// Run no gateway
    #[arg(long, conflicts_with = "gateway")]
    pub no_gateway: bool,
}

impl BesideArgs {
    /// The settings that its flags override.
    ///
    /// # Panics
    /// Never: on and off are what the setting can be.
    #[must_use]
    pub fn overrides(&self) -> Vec<Override> {
        let switch = match (&self.gateway, self.no_gateway) {
            (Some(_), _) => Some("on"),
            (None, true) => Some("off"),
            (None, false) => None,
        };
        let switch = switch
            .map(|switch| Override::new("gateway.with_node", switch).expect("it is one of the two choices"));
        switch.into_iter().chain(self.gateway.iter().flatten().cloned()).collect()
    }
}

/// Arguments of `access`.
#[derive(Debug, Args)]
pub struct AccessArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: AccessCommand,
}

/// What to do with access keys.
#[derive(Debug, Subcommand)]
pub enum AccessCommand {
    /// Make an access key, and show its secret this once
    #[command(after_long_help = json::ACCESS_SECRET)]
    New(AccessNewArgs),
    /// List the access keys and what they may do
    #[command(after_long_help = json::ACCESS)]
    List,
    /// Let an access key do something in a bucket, in place of what it could do there before
    #[command(after_long_help = json::ACCESS)]
    Grant(AccessGrantArgs),
    /// Remove an access key
    #[command(after_long_help = json::ACCESS)]
    Remove(AccessRemoveArgs),
}

/// Arguments of `access new`.
#[derive(Debug, Args)]
pub struct AccessNewArgs {
    /// What to call it
    #[arg(long)]
    pub name: Option<String>,
    /// What it may do, as in photos=read or '*=own', where * means every bucket and to make and remove them; may be repeated
    #[arg(long = "grant", value_name = "BUCKET=ACCESS", required = true)]
    pub grants: Vec<GrantArg>,
}

/// Arguments of `access grant`.
#[derive(Debug, Args)]
pub struct AccessGrantArgs {
    /// The id of the access key
    pub id: String,
    /// What it may do, as in photos=read or '*=own'; BUCKET=none takes it away
    #[arg(value_name = "BUCKET=ACCESS", required = true)]
    pub grants: Vec<GrantArg>,
}

/// Arguments of `access remove`.
#[derive(Debug, Args)]
pub struct AccessRemoveArgs {
    /// The id of the access key
    pub id: String,
}

/// What an access key may do in a bucket; nothing, where `access` is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantArg {
    /// The bucket; every one if none is named.
    pub bucket: Option<BucketName>,
    /// What may be done there.
    pub access: Option<Access>,
}

impl GrantArg {
    /// The grant, unless it is of nothing.
    #[must_use]
    pub fn grant(&self) -> Option<Grant> {
        self.access.map(|access| Grant { bucket: self.bucket.clone(), access })
    }
}

impl FromStr for GrantArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (bucket, access) = text
            .split_once('=')
            .ok_or_else(|| format!("`{text}` is no BUCKET=ACCESS, as in photos=read or *=own"))?;
        let bucket = match bucket {
            EVERY_BUCKET => None,
            name => Some(name.parse().map_err(|error: datamesh_core::bucket::NameError| error.to_string())?),
        };
        let access = match access {
            "none" => None,
            access => Some(access.parse().map_err(|error| format!("{error}, or none"))?),
        };
        Ok(Self { bucket, access })
    }
}

#[cfg(test)]
mod tests {
    use datamesh_core::bucket::Access;

    use super::GrantArg;

    #[test]
    fn a_grant_names_a_bucket_or_every_one_and_what_may_be_done() {
        let grant: GrantArg = "photos=read".parse().expect("a grant");
        assert_eq!((grant.bucket.expect("a bucket").as_str(), grant.access), ("photos", Some(Access::Read)));
        let grant: GrantArg = "*=own".parse().expect("a grant");
        assert_eq!((grant.bucket, grant.access), (None, Some(Access::Own)));
        assert_eq!("photos=none".parse::<GrantArg>().expect("a grant").grant(), None);
        for text in ["photos", "=read", "photos=", "photos=all", "UPPER=read", ""] {
            assert!(text.parse::<GrantArg>().is_err(), "{text}");
        }
    }
}
