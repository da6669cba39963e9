//! Who is let in, by what, and what the others are told; TLS on either side.

use super::identity::IDENTITY;
use super::{Cluster, File, Pooler};
use crate::certificates::PEM;

#[test]
fn passwords_are_asked_for_on_both_sides() {
    let Some(cluster) = Cluster::shared() else { return };
    let pooler = Pooler::start(cluster, "", "");
    let who = ["select current_user"];
    assert_eq!(pooler.psql("", &who), "trusted");
    assert_eq!(pooler.psql("user=ada password=secret", &who), "ada");
    // The same text for who is not known: nobody learns which users there are.
    for target in ["user=ada password=wrong", "user=nobody password=secret"] {
        let name = &target[5..target.find(' ').unwrap()];
        let told = pooler.psql(target, &who);
        assert!(
            told.ends_with(&format!("FATAL:  password authentication failed for user \"{name}\"")),
            "{told}"
        );
    }
    let told = pooler.psql("dbname=other", &who);
    assert!(told.ends_with("FATAL:  database \"other\" is not in the configuration of the pooler"), "{told}");
}

#[test]
fn what_the_server_says_of_a_login_is_passed_on() {
    let Some(cluster) = Cluster::shared() else { return };
    let port = cluster.port;
    let pooler = Pooler::with(&format!(
        "[databases.gone]\nport = {port}\n[databases.shop]\nport = {port}\n[users.ada]\nauth = 'trust'\nserver_password = 'wrong'\n[users.trusted]\nauth = 'trust'\n[users.eve]\nauth = 'trust'"
    ));
    let told = pooler.psql("user=ada", &["select 1"]);
    assert!(told.ends_with("the server says: password authentication failed for user \"ada\""), "{told}");
    let told = pooler.psql("user=eve", &["select 1"]);
    assert!(
        told.ends_with("the server wants a password for \"eve\": give it one in the configuration"),
        "{told}"
    );
    let told = pooler.psql("dbname=gone", &["select 1"]);
    assert!(told.ends_with("the server says: database \"gone\" does not exist"), "{told}");
}

#[test]
fn tls_on_either_side() {
    let Some(cluster) = Cluster::shared() else { return };
    let pair = &*IDENTITY;
    let (certificate, key) =
        (File::new("certificate.pem", &pair.certificate), File::new("key.pem", &pair.key));
    let (root, stranger) = (File::new("root.pem", &pair.root), File::new("stranger.pem", &PEM.other_root));
    let tls =
        format!("[tls]\nmode = 'require'\ncertificate = '{}'\nkey = '{}'", certificate.path(), key.path());
    let guarded = "\n[users.guarded]\npassword = 'secret'";
    let inner = |more: &str| {
        format!("host = 'localhost'\ntls = 'verify-full'\ntls_ca = '{}'\n{more}{guarded}", root.path())
    };
    let pooler = Pooler::start(cluster, &inner(""), &tls);
    let is_tls = ["select ssl from pg_stat_ssl where pid = pg_backend_pid()"];
    // By SCRAM-SHA-256-PLUS on both sides, since both can.
    let bound = "user=guarded password=secret channel_binding=require sslmode=require";
    assert_eq!(pooler.psql(bound, &is_tls), "t");
    let full = |root: &File| format!("sslmode=verify-full sslrootcert={}", root.path());
    assert_eq!(pooler.psql(&full(&root), &is_tls), "t");
    let told = pooler.psql(&full(&stranger), &is_tls);
    assert!(told.contains("certificate verify failed"), "{told}");
    let told = pooler.psql("sslmode=disable", &is_tls);
    assert!(told.ends_with("FATAL:  the pooler requires TLS (sslmode=require)"), "{told}");
}

#[test]
fn a_server_without_the_tls_that_is_wanted() {
    let Some(cluster) = Cluster::shared() else { return };
    let stranger = File::new("stranger-of-server.pem", &PEM.other_root);
    let pooler = Pooler::start(cluster, &format!("tls = 'verify-ca'\ntls_ca = '{}'", stranger.path()), "");
    let told = pooler.psql("", &["select 1"]);
    assert!(told.contains("for shop/trusted: TLS: "), "{told}");
    // One that wants TLS, and a pooler that does not.
    let pooler = Pooler::start(cluster, "\n[users.guarded]\nauth = 'trust'\nserver_password = 'secret'", "");
    let told = pooler.psql("user=guarded", &["select 1"]);
    assert!(told.contains("the server says: pg_hba.conf rejects connection"), "{told}");
}
