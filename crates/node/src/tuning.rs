//! What the settings mean to the parts that are wired together.

use std::time::Duration;

use datamesh_core::id::NodeId;
use datamesh_engine::alert::AlertSettings;
use datamesh_engine::keep::KeepSettings;
use datamesh_engine::traffic::{ByDirection, Priority, RateLimits, TrafficSettings};
use datamesh_engine::transfer::TransferSettings;
use datamesh_net::{DataPlane, Multiaddr};
use datamesh_store::StoreSettings;

use crate::charter::Charter;
use crate::settings::Settings;

/// How long a node may take to answer another one that repairs before a second one is asked for the same.
const KEEP_HEDGE_AFTER: Duration = Duration::from_secs(10);

/// What a node's disk goes by.
pub(crate) fn store_settings(settings: &Settings) -> StoreSettings {
    StoreSettings {
        free_floor: settings.storage.free_floor.bytes(),
        ..StoreSettings::new(settings.storage.capacity.bytes())
    }
}

/// What a process' traffic goes by.
pub(crate) fn traffic(settings: &Settings) -> TrafficSettings {
    let transfer = &settings.transfer;
    TrafficSettings {
        memory: usize::try_from(transfer.memory.bytes()).unwrap_or(usize::MAX),
        concurrent_transfers: transfer.concurrent_transfers.count(),
        limits: ByDirection {
            upload: RateLimits {
                total: transfer.upload_rate.rate(),
                per_peer: transfer.upload_rate_per_peer.rate(),
            },
            download: RateLimits {
                total: transfer.download_rate.rate(),
                per_peer: transfer.download_rate_per_peer.rate(),
            },
        },
        window_min: transfer.window_min.count(),
        window_max: transfer.window_max.count(),
    }
}

/// What one transfer goes by.
pub(crate) fn transfer(settings: &Settings) -> TransferSettings {
    let transfer = &settings.transfer;
    TransferSettings {
        fetch_deadline: transfer.stall_timeout.duration(),
        store_deadline: transfer.stall_timeout.duration(),
        hedge_after: transfer.hedge_after.duration(),
        attempts: u32::try_from(transfer.retry_attempts.count()).expect("a small count fits"),
        retry_delay: transfer.retry_delay.duration(),
        retry_backoff: u32::try_from(transfer.retry_backoff.count()).expect("a small count fits"),
        retry_delay_max: transfer.retry_delay_max.duration(),
        stripes_in_flight: transfer.stripes_in_flight.count(),
        priority: transfer.priority,
        limits: ByDirection {
            upload: transfer.upload_rate_per_transfer.rate(),
            download: transfer.download_rate_per_transfer.rate(),
        },
        ..TransferSettings::default()
    }
}

/// How a node keeps what it holds whole: behind all that it does for others.
pub(crate) fn keep_settings(settings: &Settings, own: NodeId) -> KeepSettings {
    let rate = settings.repair.rate.rate();
    let transfer = TransferSettings {
        priority: Priority::Background,
        limits: ByDirection { upload: rate, download: rate },
        // Nobody waits for it, and whoever is asked twice sends twice.
        hedge_after: KEEP_HEDGE_AFTER,
        own: Some(own),
        ..transfer(settings)
    };
    KeepSettings { transfer, settle: settings.repair.settle.duration() }
}

/// How patient a node is before it tells of what is wrong.
pub(crate) fn alert_settings(settings: &Settings) -> AlertSettings {
    let alerts = &settings.alerts;
    AlertSettings {
        raise_after: alerts.raise_after.duration(),
        clear_after: alerts.clear_after.duration(),
        remind_every: alerts.remind_every.duration(),
    }
}

/// How a cache node gets what is popular: behind all that it serves.
pub(crate) fn pull_settings(settings: &Settings) -> TransferSettings {
    let download = settings.cache.pull_rate.rate();
    TransferSettings {
        priority: Priority::Background,
        limits: ByDirection { download, ..ByDirection::default() },
        ..transfer(settings)
    }
}

/// Where shards move beside libp2p.
pub(crate) fn data_plane(settings: &Settings) -> DataPlane {
    let congestion = settings.network.congestion_control.name().map(str::to_owned);
    DataPlane::On { port: settings.network.data_port, congestion }
}

/// The addresses that the settings name, or the port on every interface, for TCP and, unless the mesh is private, for QUIC.
pub(crate) fn listen_addresses(settings: &Settings, charter: &Charter) -> Vec<Multiaddr> {
    if !settings.network.listen.is_empty() {
        return settings.network.listen.clone();
    }
    let port = settings.network.listen_port;
    let texts = [
        format!("/ip4/0.0.0.0/tcp/{port}"),
        format!("/ip4/0.0.0.0/udp/{port}/quic-v1"),
        format!("/ip6/::/tcp/{port}"),
        format!("/ip6/::/udp/{port}/quic-v1"),
    ];
    let spoken = texts.iter().filter(|text| charter.key().is_none() || !text.contains("/quic"));
    spoken.map(|text| text.parse().expect("these are multiaddresses whatever the port")).collect()
}
