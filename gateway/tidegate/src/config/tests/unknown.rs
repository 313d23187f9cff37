//! What nobody knows: keys, variables, flags, files, syntax.

use super::super::*;
use super::problems;

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_key_that_was_meant() {
    let file = "[limits]\n  max_pakcet_size = 1\n\n[limts]\nx = 1\n[telemetry]\nmax_inflight = 3\n\
                [http]\nzzz = 1\n[listeners.mqtt]\nbnid = \"\"\n";
    assert_eq!(
        problems(file, &[], &[]),
        [
            "tidegate.toml:2:3: unknown key limits.max_pakcet_size; did you mean limits.max_packet_size?",
            "tidegate.toml:4:2: unknown key limts; did you mean limits?",
            "tidegate.toml:7:1: unknown key telemetry.max_inflight; did you mean limits.max_inflight?",
            "tidegate.toml:9:1: unknown key http.zzz",
            "tidegate.toml:11:1: unknown key listeners.mqtt.bnid; did you mean listeners.mqtt.bind?",
        ]
    );
}

#[test]
fn sections_of_parts_that_are_not_built_do_not_exist() {
    let file = "[federation]\nbind = \"x\"\n[rules]\n";
    assert_eq!(
        problems(file, &[], &[]),
        [
            "tidegate.toml:1:2: unknown key federation",
            "tidegate.toml:3:2: unknown key rules",
        ]
    );
}

#[test]
fn an_unknown_variable_is_named() {
    let variables = [
        ("TIDEGATE__LIMITS__MAX_INFLIHGT", "1"),
        ("TIDEGATE__FEDERATION__BIND", "x"),
        ("TIDEGATE__LIMITS", "1"),
        ("TIDEGATE__", "1"),
        ("TIDEGATE__LIMITS____X", "1"),
        ("TIDEGATE_PORT", "tcp://10.0.0.1:1883"),
        ("TIDEGATE", "1"),
        ("PATH", "/bin"),
    ];
    let mut found = problems("", &variables, &[]);
    found.sort();
    assert_eq!(
        found,
        [
            "environment TIDEGATE__: a variable is called TIDEGATE__SECTION__KEY",
            "environment TIDEGATE__FEDERATION__BIND: unknown key federation",
            "environment TIDEGATE__LIMITS: a variable is called TIDEGATE__SECTION__KEY",
            "environment TIDEGATE__LIMITS__MAX_INFLIHGT: unknown key limits.max_inflihgt; \
             did you mean TIDEGATE__LIMITS__MAX_INFLIGHT?",
            "environment TIDEGATE__LIMITS____X: a variable is called TIDEGATE__SECTION__KEY",
        ]
    );
}

#[test]
fn an_unknown_section_names_the_variables_in_it_too() {
    let found = problems(
        "[federation]\na = 1\n",
        &[("TIDEGATE__FEDERATION__BIND", "x")],
        &["federation.b=1"],
    );
    assert_eq!(
        found,
        [
            "tidegate.toml:1:2: unknown key federation",
            "environment TIDEGATE__FEDERATION__BIND: unknown key federation",
            "flag --set federation.b: unknown key federation",
        ]
    );
}

#[test]
fn a_flag_that_is_no_key_is_named() {
    assert_eq!(
        problems(
            "",
            &[],
            &["max_inflight=1", "limits.=1", "limits.max_inflite=1"]
        ),
        [
            "flag --set limits.: \"limits.\" is not of the form section.key",
            "flag --set limits.max_inflite: unknown key limits.max_inflite; did you mean limits.max_inflight?",
            "flag --set max_inflight: \"max_inflight\" is not of the form section.key",
        ]
    );
}

#[test]
fn wrong_syntax_is_named_with_its_place() {
    let found = problems("[limits]\nmax_inflight = \n[http\n", &[], &[]);
    assert!(found[0].starts_with("tidegate.toml:2:1"), "{found:?}");
    assert!(
        found
            .iter()
            .any(|line| line.starts_with("tidegate.toml:3:")),
        "{found:?}"
    );
    let twice = problems("[http]\nenabled = true\nenabled = false\n", &[], &[]);
    assert!(
        twice[0].starts_with("tidegate.toml:3:1: duplicate key"),
        "{twice:?}"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let sources = Sources {
        file: Some(PathBuf::from("/nonexistent/tidegate.toml")),
        ..Sources::default()
    };
    let problems = sources.load().unwrap_err().to_string();
    assert!(
        problems.contains("flag --config: /nonexistent/tidegate.toml cannot be read: "),
        "{problems}"
    );
}

#[test]
fn columns_count_characters() {
    assert_eq!(
        problems("node = { name = \"é\", nname = 1 }\n", &[], &[])[0],
        "tidegate.toml:1:22: unknown key node.nname; did you mean node.name?"
    );
}
