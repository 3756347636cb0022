//! Claims about settings.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use datamesh_core::scheme::Mode;
use datamesh_engine::transfer::Temperature;

use super::{
    ByteSize, DEFINITIONS, Definition, Layers, Origin, Override, ResolvedSettings, Settings, SettingsError,
    SettingsFile, check, set,
};

fn layers(text: &str, environment: &[(&str, &str)], overrides: &[(&'static str, &str)]) -> Layers {
    let owned = |(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
    let flag = |(key, text): &(&'static str, &str)| Override::new(key, text).expect("valid");
    Layers {
        file: SettingsFile::new(Path::new("config.toml"), text),
        environment: environment.iter().map(owned).collect(),
        overrides: overrides.iter().map(flag).collect(),
    }
}

fn refused(layers: &Layers) -> String {
    ResolvedSettings::load(layers).expect_err("refused").to_string()
}

#[test]
fn every_default_is_valid_and_is_written_as_it_is_read() {
    let settings = Settings::default();
    for definition in DEFINITIONS {
        assert_eq!((definition.text)(&settings), definition.default, "{}", definition.key);
        assert!(definition.about().ends_with('.'), "{}", definition.key);
        for choice in definition.choices {
            let mut settings = Settings::default();
            assert_eq!((definition.assign)(&mut settings, choice), Ok(()), "{}", definition.key);
        }
    }
}

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    let file = "[put]\nmode = 'dedup'\nscheme = '1+1'\ncompression = 'none'\n";
    let environment =
        [("DATAMESH_PUT_SCHEME", "2+2"), ("DATAMESH_PUT_COMPRESSION", "zstd:3"), ("PATH", "/bin")];
    let resolved =
        ResolvedSettings::load(&layers(file, &environment, &[("put.compression", "zstd:9")])).expect("valid");
    let value = |key| {
        let definition = Definition::of(key).expect("defined");
        (resolved.text(definition), resolved.origin(definition).to_string())
    };
    let pair = |text: &str, origin: &str| (text.to_owned(), origin.to_owned());
    assert_eq!(value("put.chunking"), pair("auto", "default"));
    assert_eq!(value("put.mode"), pair("dedup", "config.toml:2"));
    assert_eq!(value("put.scheme"), pair("2+2", "DATAMESH_PUT_SCHEME"));
    assert_eq!(value("put.compression"), pair("zstd:9", "command line"));
    assert_eq!(resolved.settings().put.mode, Mode::Dedup);
    assert_eq!(resolved.settings().transfer.stall_timeout.duration(), Duration::from_secs(30));
}

#[test]
fn an_unknown_key_is_refused_with_file_line_and_the_nearest_key() {
    let layers = layers("# mine\n[storage]\ncapacity = '1TB'\nfree_flor = '2GiB'\n", &[], &[]);
    let error = ResolvedSettings::load(&layers).expect_err("refused");
    assert_eq!(error.to_string(), "config.toml:4: unknown setting `storage.free_flor`");
    let SettingsError::UnknownKey { nearest, .. } = error else { panic!("{error}") };
    assert_eq!(nearest.as_deref(), Some("storage.free_floor"));
}

#[test]
fn an_unknown_variable_is_refused_with_the_nearest_one() {
    let error = ResolvedSettings::load(&layers("", &[("DATAMESH_PUT_MODES", "sealed")], &[]));
    let Err(SettingsError::UnknownKey { origin, nearest, .. }) = error else { panic!("{error:?}") };
    assert_eq!(origin, Origin::Environment("DATAMESH_PUT_MODES".to_owned()));
    assert_eq!(nearest.as_deref(), Some("DATAMESH_PUT_MODE"));
    for (name, _) in super::ENVIRONMENT {
        assert!(ResolvedSettings::load(&layers("", &[(name, "x")], &[])).is_ok(), "{name}");
    }
}

#[test]
fn a_bad_unit_is_refused_with_file_and_line() {
    let error = refused(&layers("[storage]\n\ncapacity = 500\n", &[], &[]));
    assert!(error.starts_with("config.toml:3: storage.capacity: `500` is no size"), "{error}");
    let error = refused(&layers("transfer.stall_timeout = '30 parsecs'", &[], &[]));
    assert!(
        error.starts_with("config.toml:1: transfer.stall_timeout: `30 parsecs` is no length of time"),
        "{error}"
    );
    let error = refused(&layers("put = true", &[], &[]));
    assert_eq!(error, "config.toml:1: unknown setting `put`");
    let error = refused(&layers("network.listen = [1]", &[], &[]));
    assert!(error.contains("something else than texts"), "{error}");
}

#[test]
fn what_is_no_toml_is_refused_with_its_line() {
    let error = refused(&layers("[put]\nmode = \n", &[], &[]));
    assert!(error.starts_with("config.toml:2: "), "{error}");
}

#[test]
fn a_check_finds_everything_that_is_wrong() {
    let layers = layers("a = 1\n[put]\nmode = 'x'\nmoed = 'sealed'\n", &[("DATAMESH_X", "")], &[]);
    assert_eq!(check(&layers).len(), 4);
    assert!(check(&self::layers("", &[], &[])).is_empty());
}

#[test]
fn a_list_is_a_toml_array_or_one_text_with_commas() {
    let expected = ["/ip4/127.0.0.1/tcp/1", "/ip6/::1/udp/2/quic-v1"];
    let file = format!("network.listen = {expected:?}");
    let joined = expected.join(", ");
    for layers in [layers(&file, &[], &[]), layers("", &[("DATAMESH_NETWORK_LISTEN", &joined)], &[])] {
        let resolved = ResolvedSettings::load(&layers).expect("valid");
        let found: Vec<String> = resolved.settings().network.listen.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn a_value_is_set_without_losing_comments_or_order() {
    let before = "# mine\n[storage]\ncapacity = \"1TB\" # all of it\n\n[put]\nmode = \"sealed\"\n";
    let file = SettingsFile::new(Path::new("config.toml"), before);
    let file = set(&file, "storage.capacity", "500GB").expect("valid");
    let file = set(&file, "network.listen_port", "4000").expect("valid");
    let file = set(&file, "network.listen", "/ip4/127.0.0.1/tcp/1").expect("valid");
    let file = set(&file, "put.scheme", "4+2").expect("valid");
    let text = file.text();
    assert!(text.starts_with("# mine\n[storage]\ncapacity = \"500GB\" # all of it\n"), "{text}");
    assert!(text.contains("[put]\nmode = \"sealed\"\nscheme = \"4+2\"\n"), "{text}");
    assert!(text.contains("[network]\nlisten_port = 4000\nlisten = [\"/ip4/127.0.0.1/tcp/1\"]\n"), "{text}");

    let resolved =
        ResolvedSettings::load(&Layers { file: file.clone(), ..layers("", &[], &[]) }).expect("still valid");
    assert_eq!(resolved.settings().storage.capacity, ByteSize::from_bytes(500_000_000_000));
    assert!(set(&file, "storage.capacity", "500").is_err());
    assert!(set(&file, "storage.capacities", "500GB").is_err());
    let no_table = SettingsFile::new(Path::new("config.toml"), "\nput = true\n");
    let error = set(&no_table, "put.mode", "public").expect_err("refused").to_string();
    assert_eq!(error, "config.toml:2: `put` is no table");
}

#[test]
fn a_storage_class_chooses_a_scheme_and_whether_caches_keep_what_is_read() {
    let classes = |text: &str| layers("", &[("DATAMESH_GATEWAY_CLASSES", text)], &[]);
    let read = ResolvedSettings::load(&classes("WARM=8+4,FROZEN=archive@cold")).expect("valid");
    let rules = &read.settings().gateway.classes;
    let found: Vec<_> = rules.iter().map(|rule| (rule.class.as_str(), rule.temperature)).collect();
    assert_eq!(found, [("WARM", Temperature::Hot), ("FROZEN", Temperature::Cold)]);
    for wrong in ["FROZEN=archive@frozen", "FROZEN=@cold", "frozen=auto@cold"] {
        assert!(refused(&classes(wrong)).contains("gateway.classes"), "{wrong}");
    }
}
