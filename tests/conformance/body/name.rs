//! What `getaddrinfo` answers without a name server: addresses, services, and this host.

use std::ffi::CString;

use machinarium::kernel::{Family, Query};

use crate::scene::Scene;

/// Asks, with flags by their letters: p(assive), h(ost is numeric), s(ervice is numeric), c(onfigured).
fn ask(scene: &mut Scene, node: Option<&str>, service: Option<&str>, family: Family, flags: &str) {
    let text = |text: Option<&str>| text.map(|text| CString::new(text).expect("no zero"));
    let (node_text, service_text) = (text(node), text(service));
    let query = Query {
        node: node_text.as_deref(),
        service: service_text.as_deref(),
        family,
        passive: flags.contains('p'),
        numeric_host: flags.contains('h'),
        numeric_service: flags.contains('s'),
        address_config: flags.contains('c'),
    };
    let answer = scene.kernel.getaddrinfo(&query);
    scene.say(format!("getaddrinfo({node:?}, {service:?}, {family:?}, {flags}) = {answer:?}"));
}

const FAMILIES: [Family; 3] = [Family::Any, Family::Inet, Family::Inet6];

pub(super) fn getaddrinfo(scene: &mut Scene) {
    for family in FAMILIES {
        for node in ["127.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "::ffff:198.18.0.1"] {
            ask(scene, Some(node), Some("80"), family, "h");
            ask(scene, Some(node), None, family, "");
            ask(scene, Some(node), Some("80"), family, "c");
        }
    }
    ask(scene, Some("localhost"), Some("80"), Family::Inet, "");
    ask(scene, Some("LocalHost"), Some("81"), Family::Inet, "s");
    ask(scene, Some("localhost"), Some("80"), Family::Inet, "h");
    ask(scene, None, None, Family::Any, "");
}

/// Every form of an address that the library knows.
pub(super) fn forms_of_addresses(scene: &mut Scene) {
    for node in [
        "127.1",
        "1.2.772",
        "0x7f.1",
        "0X7F.0.0.01",
        "2130706433",
        "4294967295",
        "4294967296",
        "256.0.0.1",
        "1.2.3.4.5",
        "1.2.3.",
        "1..2",
        "08.1",
        "0x.1",
        "+1.2.3.4",
        " 1.2.3.4",
        "1.2.3.4 ",
        "",
        ".",
        "*",
    ] {
        ask(scene, Some(node), Some("1"), Family::Inet, "h");
    }
    for node in
        ["fe80::1%7", "fe80::1%lo", "fe80::1%0", "fe80::1%4294967296", "fe80::1%nothing", "1::2::3", "[::1]"]
    {
        ask(scene, Some(node), Some("1"), Family::Any, "h");
    }
    ask(scene, Some("::1%0x1"), Some("1"), Family::Any, "h");
    ask(scene, Some("127.0.0.1%1"), Some("1"), Family::Any, "h");
}

pub(super) fn services(scene: &mut Scene) {
    for service in [
        "0",
        "65535",
        "65536",
        "99999",
        "4294967376",
        "010",
        " 80",
        "+80",
        "80 ",
        "-1",
        "-4294967216",
        "0x50",
        "",
        "*",
        "99999999999999999999",
        "-99999999999999999999",
        "no such service",
    ] {
        ask(scene, Some("127.0.0.1"), Some(service), Family::Any, "");
        ask(scene, Some("127.0.0.1"), Some(service), Family::Any, "s");
    }
    // Not without the flag: some systems have no list of services.
    ask(scene, Some("127.0.0.1"), Some("http"), Family::Any, "s");
    // The service is looked at first.
    ask(scene, Some("256.0.0.1"), Some("no such service"), Family::Any, "h");
}

pub(super) fn this_host(scene: &mut Scene) {
    for family in FAMILIES {
        ask(scene, None, Some("7"), family, "");
        ask(scene, None, Some("7"), family, "p");
        ask(scene, Some("127.0.0.1"), Some("7"), family, "p");
    }
}
