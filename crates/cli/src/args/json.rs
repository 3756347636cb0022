//! One example of each command's JSON result, as its help shows it and as tests hold the program to it.

/// Sets an example apart in the help; the reference and the tests find it behind this line.
pub const HEAD: &str = "JSON result, one a line:";

macro_rules! examples {
    ($($name:ident = $example:literal;)+) => {
        $(pub(super) const $name: &str = concat!("JSON result, one a line:\n  ", $example);)+
    };
}

examples! {
    IDENTITY = r#"{"name":"main","recipient":"datamesh-recipient-1…","owner":"9263…","created":"2026-03-01T12:00:00Z","retired":null,"locked":false,"current":true}"#;
    SECRET = r#"{"name":"main","secret":"datamesh-secret-1…"}"#;
    NETWORK = r#"{"name":"mesh","current":true,"addresses":["/ip4/10.0.0.1/tcp/40871/p2p/12D3KooW…"]}"#;
    NODE = r#"{"peer_id":"12D3KooW…","addresses":["/ip4/10.0.0.1/tcp/40871/p2p/12D3KooW…"]}"#;
    SETTING = r#"{"key":"put.mode","value":"sealed","source":"default"}"#;
    CHECK = r#"{"valid":false,"problems":["config.toml:3: unknown setting `put.mod`; did you mean `put.mode`?"]}"#;
    COMPLETIONS = r#"{"shell":"bash","script":"…"}"#;
    MAN = r#"{"directory":"man","pages":["datamesh.1"]}"#;
}
