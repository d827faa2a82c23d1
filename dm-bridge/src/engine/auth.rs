//! Who a peer is: the proof that the device was enrolled with, and nonces that are good once.
//!
//! The caller stores the device's row before the answer leaves, so a nonce that was handed out
//! or used is known after a crash too.

use std::time::Duration;

use proto::{
    dm::{
        auth::{AuthKind, Mac},
        syncml::Credential,
    },
    time::Utc,
};

use crate::fleet::device::{CHALLENGE_LIFETIME, Challenge, Device, Nonce};

/// Failures within [`FAILURE_SPAN`] after which a device has to wait.
pub const MAX_FAILURES: u32 = 5;

/// The span over which failures are counted.
pub const FAILURE_SPAN: Duration = Duration::from_secs(600);

/// What a peer showed.
#[derive(Debug, Clone, Copy)]
pub struct Proof<'a> {
    /// The credential, if it sent one.
    pub credential: Option<&'a Credential>,
    /// The proof over the message beside it, and the octets of the message.
    pub mac: Option<(&'a Mac, &'a [u8])>,
    /// The user name beside its address, if it sent one.
    pub user: Option<&'a str>,
    /// The DM session that it claims.
    pub session: &'a str,
}

/// What the proof is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is the device. The nonce is for its next session.
    Accepted(Nonce),
    /// No credential; try again with this nonce.
    Missing(Nonce),
    /// A wrong credential, or one made with a nonce that is used or void; try again with this one.
    Wrong(Nonce),
    /// Too many failures; not even looked at.
    Locked(Duration),
}

/// Judges a proof; `fresh` is a nonce that was never used.
///
/// # Source
///
/// Security facts 7.2; OMA DM 1.2 security.
pub fn judge(device: &mut Device, proof: Proof<'_>, now: Utc, fresh: Nonce) -> Verdict {
    let auth = &mut device.auth;
    if now.since(auth.failing_since) >= FAILURE_SPAN {
        auth.failures = 0;
    }
    // spec: security 7.2 (five failures in ten minutes)
    if auth.failures >= MAX_FAILURES {
        return Verdict::Locked(FAILURE_SPAN.saturating_sub(now.since(auth.failing_since)));
    }
    if proof.credential.is_none() && proof.mac.is_none() {
        challenge(device, proof.session, now, &fresh);
        return Verdict::Missing(fresh);
    }
    if is_proved(device, proof, now) {
        let auth = &mut device.auth;
        // Whichever nonce it was, both are gone: a recorded message opens nothing again.
        auth.next_nonce = Some(fresh.clone());
        auth.challenge = None;
        auth.failures = 0;
        device.last_seen = Some(now);
        return Verdict::Accepted(fresh);
    }
    if device.auth.failures == 0 {
        device.auth.failing_since = now;
    }
    device.auth.failures = device.auth.failures.saturating_add(1);
    challenge(device, proof.session, now, &fresh);
    Verdict::Wrong(fresh)
}

fn is_proved(device: &Device, proof: Proof<'_>, now: Utc) -> bool {
    let auth = &device.auth;
    if proof.user.is_some_and(|user| user != auth.user) {
        return false;
    }
    let challenged = auth.challenge.as_ref().filter(|challenge| {
        challenge.session == proof.session && now.since(challenge.made) < CHALLENGE_LIFETIME
    });
    // spec: security 7.2 (a nonce is accepted once, and for ten minutes)
    let nonces = [auth.next_nonce.as_ref(), challenged.map(|challenge| &challenge.nonce)];
    let shown = |proves: &dyn Fn(&Credential) -> bool| proof.credential.is_some_and(proves);
    let mut nonces = nonces.into_iter().flatten();
    // spec: oma-dm 5.1 (the kind that was agreed on and no weaker one)
    match auth.kind {
        AuthKind::Basic => shown(&|it| auth.secret.proves_basic(it)),
        AuthKind::Md5 => nonces.any(|nonce| shown(&|it| auth.secret.proves(it, &nonce.0))),
        AuthKind::Mac => proof.mac.is_some_and(|(mac, body)| {
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
    use crate::fleet::contract;

    const NOW: Utc = Utc::from_seconds(10_000);

    fn device() -> Device {
        let mut device = contract::device("a");
        device.auth.secret = Secret::new("a", "right").into();
        device.auth.next_nonce = Some(Nonce([1; 16]));
        device.auth.challenge = None;
        device.auth.failures = 0;
        device
    }

    fn credential(password: &str, nonce: [u8; 16]) -> Credential {
        Secret::new("a", password).credential(&nonce)
    }

    fn show(device: &mut Device, credential: &Credential, session: &str, now: Utc) -> Verdict {
        let proof = Proof { credential: Some(credential), mac: None, user: Some("a"), session };
        judge(device, proof, now, Nonce([9; 16]))
    }

    // test: oma-dm 5 (212 and the nonce of the next session)
    #[test]
    fn the_enrolled_nonce_is_good_once() {
        let mut device = device();
        let credential = credential("right", [1; 16]);
        assert_eq!(show(&mut device, &credential, "1", NOW), Verdict::Accepted(Nonce([9; 16])));
        assert_eq!(device.auth.next_nonce, Some(Nonce([9; 16])));
        assert_eq!(show(&mut device, &credential, "2", NOW), Verdict::Wrong(Nonce([9; 16])));
    }

    // test: security 7.2 (a nonce is accepted once, and for ten minutes)
    #[test]
    fn a_challenge_is_good_for_its_session_and_ten_minutes() {
        let ask = |device: &mut Device| {
            let proof = Proof { credential: None, mac: None, user: Some("a"), session: "1" };
            assert_eq!(judge(device, proof, NOW, Nonce([5; 16])), Verdict::Missing(Nonce([5; 16])));
        };
        let answer = credential("right", [5; 16]);
        let last = NOW + (CHALLENGE_LIFETIME - Duration::from_millis(1));
        for (session, at, good) in
            [("1", last, true), ("1", NOW + CHALLENGE_LIFETIME, false), ("2", NOW, false)]
        {
            let mut device = device();
            ask(&mut device);
            let verdict = show(&mut device, &answer, session, at);
            assert_eq!(matches!(verdict, Verdict::Accepted(_)), good, "{session} {at}");
        }
    }

    #[test]
    fn an_accepted_credential_voids_the_other_nonce_too() {
        let mut device = device();
        let proof = Proof { credential: None, mac: None, user: Some("a"), session: "1" };
        judge(&mut device, proof, NOW, Nonce([5; 16]));
        let verdict = show(&mut device, &credential("right", [1; 16]), "1", NOW);
        assert!(matches!(verdict, Verdict::Accepted(_)));
        let verdict = show(&mut device, &credential("right", [5; 16]), "1", NOW);
        assert!(matches!(verdict, Verdict::Wrong(_)));
    }

    #[test]
    fn a_wrong_password_or_user_is_answered_with_a_fresh_challenge() {
        let mut device = device();
        let verdict = show(&mut device, &credential("wrong", [1; 16]), "1", NOW);
        assert_eq!(verdict, Verdict::Wrong(Nonce([9; 16])));
        let right = credential("right", [1; 16]);
        let proof = Proof { credential: Some(&right), mac: None, user: Some("b"), session: "1" };
        assert!(matches!(judge(&mut device, proof, NOW, Nonce([8; 16])), Verdict::Wrong(_)));
        assert_eq!(device.auth.failures, 2);
        assert_eq!(device.auth.next_nonce, Some(Nonce([1; 16])), "a stranger cannot burn it");
    }

    // test: security 7.2 (five failures in ten minutes)
    #[test]
    fn five_failures_in_ten_minutes_make_everybody_wait() {
        let mut device = device();
        let wrong = credential("wrong", [1; 16]);
        for _ in 0..MAX_FAILURES {
            assert!(matches!(show(&mut device, &wrong, "1", NOW), Verdict::Wrong(_)));
        }
        let right = credential("right", [1; 16]);
        let later = NOW + Duration::from_secs(100);
        assert_eq!(
            show(&mut device, &right, "1", later),
            Verdict::Locked(Duration::from_secs(500))
        );
        assert!(matches!(show(&mut device, &right, "1", NOW + FAILURE_SPAN), Verdict::Accepted(_)));
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
            let proof =
                Proof { credential: None, mac: Some((mac, body)), user: None, session: "1" };
            matches!(judge(&mut device, proof, NOW, Nonce([9; 16])), Verdict::Accepted(_))
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
                let proof = Proof { credential, mac, user: None, session: "1" };
                let verdict = judge(&mut device, proof, NOW, Nonce([9; 16]));
                let accepted = matches!(verdict, Verdict::Accepted(_));
                assert_eq!(accepted, kind == shown, "{kind} {shown}");
            }
        }
    }

    #[test]
    fn missing_credentials_are_no_failure() {
        let mut device = device();
        for _ in 0..20 {
            let proof = Proof { credential: None, mac: None, user: None, session: "1" };
            assert!(matches!(judge(&mut device, proof, NOW, Nonce([5; 16])), Verdict::Missing(_)));
        }
    }
}
