//! Counts, each with a least and a most.

use toml_edit::Value;

use crate::settings::value::SettingValue;

macro_rules! counts {
    ($($(#[doc = $about:literal])+ $type:ident: $min:literal to $max:literal,)+) => {
        $(
            $(#[doc = $about])+
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub struct $type(u16);

            impl $type {
                /// The number.
                #[must_use]
                pub fn count(self) -> usize {
                    usize::from(self.0)
                }
            }

            impl SettingValue for $type {
                const FORM: &'static str = concat!($min, " to ", $max);

                fn read(text: &str) -> Result<Self, String> {
                    let count = text.parse().ok().filter(|count| ($min..=$max).contains(count));
                    count.map(Self).ok_or_else(|| format!("`{text}` is no number from {} to {}", $min, $max))
                }

                fn text(&self) -> String {
                    self.0.to_string()
                }

                fn toml(&self) -> Value {
                    Value::from(i64::from(self.0))
                }
            }
        )+
    };
}

counts! {
    /// How many stripes of one object are under way at once: each takes its chunk and its shards of memory.
    StripesInFlight: 1 to 64,
    /// How many transfers of one process run at once.
    ConcurrentTransfers: 1 to 1000,
    /// How many requests one node has under way.
    WindowSize: 1 to 100,
    /// How often something is tried.
    RetryAttempts: 1 to 100,
    /// By how much a pause grows.
    RetryBackoff: 1 to 10,
}
