//! Authentication of devices: credentials, one-time nonces, lockout.
//!
//! The caller stores the device's row before the reply is sent, so a nonce that was issued or used
//! is known after a crash too.

use std::time::Duration;

use proto::{
    dm::{
        auth::{AuthKind, Mac},
        syncml::Credential,
    },
    time::Utc,
};

use crate::fleet::device::{CHALLENGE_LIFETIME, Challenge, Device, Nonce};

/// Failures within [`FAILURE_SPAN`] that lock a device out.
pub const MAX_FAILURES: u32 = 5;

/// Span over which failures are counted.
pub const FAILURE_SPAN: Duration = Duration::from_secs(600);

/// Credentials of a peer.
#[derive(Debug, Clone, Copy)]
pub struct ClientCredentials<'a> {
    /// `Cred` of the header.
    pub credential: Option<&'a Credential>,
    /// The HMAC over the message, and the octets of the message.
    pub mac: Option<(&'a Mac, &'a [u8])>,
    /// User name in the source of the header.
    pub user: Option<&'a str>,
    /// Session id of the header.
    pub session: &'a str,
}

/// Outcome of an authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthOutcome {
    /// Success; the nonce is for the next session.
    Accepted(Nonce),
    /// No credential; the challenge carries this nonce.
    AuthRequired(Nonce),
    /// Wrong credential, or one made with a used or void nonce; the challenge carries this nonce.
    AuthFailed(Nonce),
    /// Too many failures; the credential was not verified.
    LockedOut(Duration),
}

/// Verifies the credentials of a peer; `fresh` is a nonce that was never used.
///
/// # Source
///
/// Security facts 7.2; OMA DM 1.2 security.
pub fn authenticate(
    device: &mut Device,
    credentials: ClientCredentials<'_>,
    now: Utc,
    fresh: Nonce,
) -> AuthOutcome {
    let auth = &mut device.auth;
    if now.since(auth.failing_since) >= FAILURE_SPAN {
        auth.failures = 0;
    }
    // spec: security 7.2 (five failures in ten minutes)
    if auth.failures >= MAX_FAILURES {
        return AuthOutcome::LockedOut(FAILURE_SPAN.saturating_sub(now.since(auth.failing_since)));
    }
    if credentials.credential.is_none() && credentials.mac.is_none() {
        challenge(device, credentials.session, now, &fresh);
        return AuthOutcome::AuthRequired(fresh);
    }
    if is_authentic(device, credentials, now) {
        let auth = &mut device.auth;
        // Either nonce voids both, so that a recorded message cannot be replayed.
        auth.next_nonce = Some(fresh.clone());
        auth.challenge = None;
        auth.failures = 0;
        device.last_seen = Some(now);
        return AuthOutcome::Accepted(fresh);
    }
    if device.auth.failures == 0 {
        device.auth.failing_since = now;
    }
    device.auth.failures = device.auth.failures.saturating_add(1);
    challenge(device, credentials.session, now, &fresh);
    AuthOutcome::AuthFailed(fresh)
}

fn is_authentic(device: &Device, credentials: ClientCredentials<'_>, now: Utc) -> bool {
    let auth = &device.auth;
    if credentials.user.is_some_and(|user| user != auth.user) {
        return false;
    }
    let challenged = auth.challenge.as_ref().filter(|challenge| {
        challenge.session == credentials.session && now.since(challenge.made) < CHALLENGE_LIFETIME
    });
    // spec: security 7.2 (a nonce is accepted once, and for ten minutes)
    let nonces = [auth.next_nonce.as_ref(), challenged.map(|challenge| &challenge.nonce)];
    let shown = |proves: &dyn Fn(&Credential) -> bool| credentials.credential.is_some_and(proves);
    let mut nonces = nonces.into_iter().flatten();
    // spec: oma-dm 5.1 (the kind that was agreed on and no weaker one)
    match auth.kind {
        AuthKind::Basic => shown(&|it| auth.secret.proves_basic(it)),
        AuthKind::Md5 => nonces.any(|nonce| shown(&|it| auth.secret.proves(it, &nonce.0))),
        AuthKind::Mac => credentials.mac.is_some_and(|(mac, body)| {
            let proves = |nonce: &Nonce| auth.secret.proves_message(mac, &nonce.0, body);
            mac.user == auth.user && nonces.any(proves)
        }),
    }
}

fn challenge(device: &mut Device, session: &str, now: Utc, nonce: &Nonce) {
    let (nonce, session) = (nonce.clone(), session.to_owned());
    device.auth.challenge = Some(Challenge { nonce, session, made: now });
}

#[cfg(test)]
mod tests {
    use proto::dm::auth::Secret;

    use super::*;
    use crate::fleet::store_tests;

    const NOW: Utc = Utc::from_seconds(10_000);

    fn device() -> Device {
        let mut device = store_tests::device("a");
        device.auth.secret = Secret::new("a", "right").into();
        device.auth.next_nonce = Some(Nonce([1; 16]));
        device.auth.challenge = None;
        device.auth.failures = 0;
        device
    }

    fn credential(password: &str, nonce: [u8; 16]) -> Credential {
        Secret::new("a", password).credential(&nonce)
    }

    fn show(device: &mut Device, credential: &Credential, session: &str, now: Utc) -> AuthOutcome {
        let credentials =
            ClientCredentials { credential: Some(credential), mac: None, user: Some("a"), session };
        authenticate(device, credentials, now, Nonce([9; 16]))
    }

    // test: oma-dm 5 (212 and the nonce of the next session)
    #[test]
    fn the_enrolled_nonce_is_good_once() {
        let mut device = device();
        let credential = credential("right", [1; 16]);
        assert_eq!(show(&mut device, &credential, "1", NOW), AuthOutcome::Accepted(Nonce([9; 16])));
        assert_eq!(device.auth.next_nonce, Some(Nonce([9; 16])));
        assert_eq!(
            show(&mut device, &credential, "2", NOW),
            AuthOutcome::AuthFailed(Nonce([9; 16]))
        );
    }

    // test: security 7.2 (a nonce is accepted once, and for ten minutes)
    #[test]
    fn a_challenge_is_good_for_its_session_and_ten_minutes() {
        let ask = |device: &mut Device| {
            let credentials =
                ClientCredentials { credential: None, mac: None, user: Some("a"), session: "1" };
            assert_eq!(
                authenticate(device, credentials, NOW, Nonce([5; 16])),
                AuthOutcome::AuthRequired(Nonce([5; 16]))
            );
        };
        let answer = credential("right", [5; 16]);
        let last = NOW + (CHALLENGE_LIFETIME - Duration::from_millis(1));
        for (session, at, good) in
            [("1", last, true), ("1", NOW + CHALLENGE_LIFETIME, false), ("2", NOW, false)]
        {
            let mut device = device();
            ask(&mut device);
            let verdict = show(&mut device, &answer, session, at);
            assert_eq!(matches!(verdict, AuthOutcome::Accepted(_)), good, "{session} {at}");
        }
    }

    #[test]
    fn an_accepted_credential_voids_the_other_nonce_too() {
        let mut device = device();
        let credentials =
            ClientCredentials { credential: None, mac: None, user: Some("a"), session: "1" };
        authenticate(&mut device, credentials, NOW, Nonce([5; 16]));
        let verdict = show(&mut device, &credential("right", [1; 16]), "1", NOW);
        assert!(matches!(verdict, AuthOutcome::Accepted(_)));
        let verdict = show(&mut device, &credential("right", [5; 16]), "1", NOW);
        assert!(matches!(verdict, AuthOutcome::AuthFailed(_)));
    }

    #[test]
    fn a_wrong_password_or_user_is_answered_with_a_fresh_challenge() {
        let mut device = device();
        let verdict = show(&mut device, &credential("wrong", [1; 16]), "1", NOW);
        assert_eq!(verdict, AuthOutcome::AuthFailed(Nonce([9; 16])));
        let right = credential("right", [1; 16]);
        let credentials = ClientCredentials {
            credential: Some(&right),
            mac: None,
            user: Some("b"),
            session: "1",
        };
        assert!(matches!(
            authenticate(&mut device, credentials, NOW, Nonce([8; 16])),
            AuthOutcome::AuthFailed(_)
        ));
        assert_eq!(device.auth.failures, 2);
        assert_eq!(
            device.auth.next_nonce,
            Some(Nonce([1; 16])),
            "an unauthenticated peer cannot void it"
        );
    }

    // test: security 7.2 (five failures in ten minutes)
    #[test]
    fn five_failures_in_ten_minutes_lock_the_device_out() {
        let mut device = device();
        let wrong = credential("wrong", [1; 16]);
        for _ in 0..MAX_FAILURES {
            assert!(matches!(show(&mut device, &wrong, "1", NOW), AuthOutcome::AuthFailed(_)));
        }
        let right = credential("right", [1; 16]);
        let later = NOW + Duration::from_secs(100);
        assert_eq!(
            show(&mut device, &right, "1", later),
            AuthOutcome::LockedOut(Duration::from_secs(500))
        );
        assert!(matches!(
            show(&mut device, &right, "1", NOW + FAILURE_SPAN),
            AuthOutcome::Accepted(_)
        ));
        assert_eq!(device.auth.failures, 0);
    }

    // test: oma-dm 5.1 (proof over each message)
    #[test]
    fn a_proof_over_the_message_is_good_once_and_for_that_message() {
        let mut device = device();
        device.auth.kind = AuthKind::Mac;
        let secret = Secret::new("a", "right");
        let of = |user: &str, nonce: [u8; 16]| Mac {
            user: user.to_owned(),
            mac: secret.mac(&nonce, b"body"),
        };
        let mut show = |mac: &Mac, body: &[u8]| {
            let credentials = ClientCredentials {
                credential: None,
                mac: Some((mac, body)),
                user: None,
                session: "1",
            };
            matches!(
                authenticate(&mut device, credentials, NOW, Nonce([9; 16])),
                AuthOutcome::Accepted(_)
            )
        };
        assert!(!show(&of("a", [1; 16]), b"another"));
        assert!(!show(&of("b", [1; 16]), b"body"));
        assert!(show(&of("a", [1; 16]), b"body"));
        assert!(!show(&of("a", [1; 16]), b"body"), "the nonce is used");
        assert!(show(&of("a", [9; 16]), b"body"));
    }

    // test: oma-dm 5.1
    #[test]
    fn a_kind_of_proof_that_was_not_agreed_on_is_refused() {
        let secret = Secret::new("a", "right");
        let md5 = secret.credential(&[1; 16]);
        let basic = Credential::basic("a", "right");
        let mac = Mac { user: "a".to_owned(), mac: secret.mac(&[1; 16], b"body") };
        for kind in AuthKind::ALL {
            for (credential, mac, shown) in [
                (Some(&basic), None, AuthKind::Basic),
                (Some(&md5), None, AuthKind::Md5),
                (None, Some((&mac, &b"body"[..])), AuthKind::Mac),
            ] {
                let mut device = device();
                device.auth.kind = kind;
                let credentials = ClientCredentials { credential, mac, user: None, session: "1" };
                let verdict = authenticate(&mut device, credentials, NOW, Nonce([9; 16]));
                let accepted = matches!(verdict, AuthOutcome::Accepted(_));
                assert_eq!(accepted, kind == shown, "{kind} {shown}");
            }
        }
    }

    #[test]
    fn missing_credentials_are_no_failure() {
        let mut device = device();
        for _ in 0..20 {
            let credentials =
                ClientCredentials { credential: None, mac: None, user: None, session: "1" };
            assert!(matches!(
                authenticate(&mut device, credentials, NOW, Nonce([5; 16])),
                AuthOutcome::AuthRequired(_)
            ));
        }
    }
}
