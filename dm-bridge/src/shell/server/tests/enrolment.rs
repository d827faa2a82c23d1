//! Enrolment by the operators' API.

use serde_json::json;

use super::*;
use crate::api::responses::{DeviceBody, EnrolledBody};

fn enrol(bridge: &Bridge, body: &serde_json::Value) -> Answer {
    let body = body.to_string();
    let body = Some(("application/json", body.as_bytes()));
    send(&bridge.url("/api/v1/devices"), "POST", Some(&bridge.token), body)
}

fn request(id: &str) -> serde_json::Value {
    json!({
        "id": id,
        "url": "https://dm.example/dm",
        "vendor": "01".repeat(16),
        "class": "02".repeat(16),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_enrolled_by_the_api_with_the_account_that_it_has() {
    let bridge = Bridge::start().await;
    let mut whole = request("FIELD-0001");
    let colons = ["ab"; 32].join(":");
    whole["account"] = json!({
        "auth": "basic",
        "server_auth": "hmac",
        "user": "field.user",
        "password": "short-field-pw",
        "server_id": "com.example.dm",
        "server_password": "a server password",
        "certificate": colons,
    });
    let answer = enrol(&bridge, &whole);
    assert_eq!(answer.status, 200);
    let enrolled: EnrolledBody = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(enrolled.warnings.len(), 1);
    assert!(enrolled.warnings[0].contains("14 characters"), "{:?}", enrolled.warnings);
    assert!(
        enrolled.settings.contains("short-field-pw") && enrolled.settings.starts_with("# weak")
    );
    test_log::record_secret("toml", enrolled.settings.as_bytes());
    let shown = bridge.get("/api/v1/devices/FIELD-0001").body;
    assert!(!String::from_utf8_lossy(&shown).contains("short-field-pw"));
    let shown: DeviceBody = serde_json::from_slice(&shown).unwrap();
    assert_eq!(shown, enrolled.device);
    let account = shown.account;
    assert_eq!((account.user.as_str(), account.auth.as_str()), ("field.user", "basic"));
    let server = (account.server_id.as_str(), account.server_auth.as_str());
    assert_eq!(server, ("com.example.dm", "hmac"));
    assert_eq!(account.certificate.as_deref(), Some("ab".repeat(32).as_str()));
    assert!(account.weak_password);

    let plain = enrol(&bridge, &request("FIELD-0002"));
    let plain: EnrolledBody = serde_json::from_slice(&plain.body).unwrap();
    test_log::record_secret("toml", plain.settings.as_bytes());
    assert!(plain.warnings.is_empty() && !plain.device.account.weak_password);
    assert_eq!(plain.device.account.user, "FIELD-0002");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enrolment_that_cannot_be_is_answered_with_its_reason() {
    let bridge = Bridge::start().await;
    for (field, value, status, said) in [
        ("auth", "digest", 400, "auth"),
        ("user", "a:b", 400, "user name"),
        ("server_id", "a b", 400, "server id"),
        ("certificate", "ab", 400, "client certificate"),
        ("surname", "x", 400, "surname"),
    ] {
        let mut body = request("FIELD-0001");
        body["account"] = json!({ field: value });
        let answer = enrol(&bridge, &body);
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, status, "{field}: {text}");
        assert!(text.contains(said), "{field}: {text}");
    }
    let mut plain = request("FIELD-0001");
    plain["url"] = json!("http://dm.example/dm");
    plain["account"] = json!({ "auth": "basic" });
    assert_eq!(enrol(&bridge, &plain).status, 422);
    assert_eq!(bridge.get("/api/v1/devices/FIELD-0001").status, 404);
    assert_eq!(enrol(&bridge, &request("FIELD-0001")).status, 200);
    assert_eq!(enrol(&bridge, &request("FIELD-0001")).status, 409);
}
