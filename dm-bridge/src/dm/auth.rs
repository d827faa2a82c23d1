//! Authentication of devices: credentials and one-time nonces.
//!
//! ```text
//! stored nonce        for a proved peer, beside 212 and 200; good until it is used
//! challenge           computed; good for its period and the one after, until it is answered
//! the challenge before  answered already, by another session or in a recording: challenged again
//! ```
//!
//! A credential that is refused changes nothing. The caller stores the device's row before a reply
//! to an accepted one is sent, so a nonce that was issued or used is known after a crash too.

use proto::dm::{
    auth::{AuthKind, Mac},
    syncml::Credential,
};

use crate::fleet::{
    challenge::ChallengeKeys,
    device::{DeviceAuth, Nonce, auth_of_nobody},
};

/// Credentials of a peer.
#[derive(Debug, Clone, Copy)]
pub struct ClientCredentials<'a> {
    /// `Cred` of the header.
    pub credential: Option<&'a Credential>,
    /// The HMAC over the message, and the octets of the message.
    pub mac: Option<(&'a Mac, &'a [u8])>,
    /// User name in the source of the header.
    pub user: Option<&'a str>,
    /// Address in the source of the header: the device id.
    pub source: &'a str,
}

/// Outcome of an authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthOutcome {
    /// Success; the nonce is for the next session, or the next message.
    Accepted(Nonce),
    /// No credential; the challenge carries this nonce.
    AuthRequired(Nonce),
    /// The right credential for a challenge that was answered already; the challenge carries this
    /// nonce.
    Stale(Nonce),
    /// Wrong credential, or one made with a used or void nonce; the challenge carries this nonce.
    AuthFailed(Nonce),
}

/// The nonce that a credential was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MadeWith {
    /// None: the kind of proof has no nonce.
    NoNonce,
    Stored,
    Challenge,
    AnsweredChallenge,
}

/// Verifies the credentials of a peer that was looked up by `name`; `fresh` is a nonce that was
/// never used. Only [`AuthOutcome::Accepted`] changes the row.
///
/// # Source
///
/// Security facts 7.2; OMA DM 1.2 security.
pub fn authenticate(
    auth: &mut DeviceAuth,
    name: &str,
    credentials: ClientCredentials<'_>,
    challenges: &ChallengeKeys,
    fresh: Nonce,
) -> AuthOutcome {
    let challenge = challenges.nonce(name, auth.challenge_count);
    if credentials.credential.is_none() && credentials.mac.is_none() {
        return AuthOutcome::AuthRequired(challenge);
    }
    match made_with(auth, name, credentials, challenges) {
        Some(MadeWith::NoNonce | MadeWith::Stored) => {}
        // A recorded message cannot be replayed: it fits the count before.
        Some(MadeWith::Challenge) => auth.challenge_count = auth.challenge_count.saturating_add(1),
        Some(MadeWith::AnsweredChallenge) => return AuthOutcome::Stale(challenge),
        None => return AuthOutcome::AuthFailed(challenge),
    }
    auth.next_nonce = Some(fresh.clone());
    AuthOutcome::Accepted(fresh)
}

/// The HMAC of a message, verified over its octets before they are parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacVerdict {
    /// It is right.
    Right,
    /// It is right for a challenge that was answered already.
    Stale,
    /// It is wrong, or made with a used or void nonce.
    Wrong,
    /// The device proves itself otherwise.
    NotUsed,
}

/// Verifies the HMAC of a message of the device `name`.
// spec: security 7.2 (parse only if the MAC is right)
#[must_use]
pub fn verify_mac(
    auth: &DeviceAuth,
    name: &str,
    mac: (&Mac, &[u8]),
    challenges: &ChallengeKeys,
) -> MacVerdict {
    if auth.kind != AuthKind::Mac {
        return MacVerdict::NotUsed;
    }
    let credentials =
        ClientCredentials { credential: None, mac: Some(mac), user: None, source: name };
    match made_with(auth, name, credentials, challenges) {
        Some(MadeWith::NoNonce | MadeWith::Stored | MadeWith::Challenge) => MacVerdict::Right,
        Some(MadeWith::AnsweredChallenge) => MacVerdict::Stale,
        None => MacVerdict::Wrong,
    }
}

/// Verifies the credentials of a peer without a row, at the cost of one with a row; `octets` are
/// random.
// spec: security 7.2 (unknown devices)
pub fn refuse_unknown(
    name: &str,
    credentials: ClientCredentials<'_>,
    challenges: &ChallengeKeys,
    octets: [u8; 16],
) -> AuthOutcome {
    let mut auth = auth_of_nobody(name, octets);
    let challenge = challenges.nonce(name, auth.challenge_count);
    match authenticate(&mut auth, name, credentials, challenges, Nonce(octets)) {
        AuthOutcome::AuthRequired(_) => AuthOutcome::AuthRequired(challenge),
        AuthOutcome::Accepted(_) | AuthOutcome::Stale(_) | AuthOutcome::AuthFailed(_) => {
            AuthOutcome::AuthFailed(challenge)
        }
    }
}

/// Returns whether credentials are right for the stored nonce. It was sent to the proved device alone
/// and has 128 random bits, so whoever guesses the secret learns nothing by it, however often he tries.
// spec: security 7.2 (the owner beside a stranger)
#[must_use]
pub fn fits_stored_nonce(
    auth: &DeviceAuth,
    name: &str,
    credentials: ClientCredentials<'_>,
) -> bool {
    auth.kind.has_nonce()
        && is_of(auth, name, credentials)
        && auth.next_nonce.as_ref().is_some_and(|nonce| proves(auth, credentials, nonce))
}

fn is_of(auth: &DeviceAuth, name: &str, credentials: ClientCredentials<'_>) -> bool {
    credentials.source == name && credentials.user.is_none_or(|user| user == auth.user)
}

/// Returns whether credentials are right for a nonce.
fn proves(auth: &DeviceAuth, credentials: ClientCredentials<'_>, nonce: &Nonce) -> bool {
    // Without the secret nothing proves it.
    let Some(secret) = auth.secret.opened() else { return false };
    match auth.kind {
        AuthKind::Basic | AuthKind::Transport => false,
        AuthKind::Md5 => credentials.credential.is_some_and(|it| secret.proves(it, &nonce.0)),
        AuthKind::Mac => credentials.mac.is_some_and(|(mac, body)| {
            mac.user == auth.user && secret.proves_message(mac, &nonce.0, body)
        }),
    }
}

/// Returns the nonce that credentials are right for.
fn made_with(
    auth: &DeviceAuth,
    name: &str,
    credentials: ClientCredentials<'_>,
    challenges: &ChallengeKeys,
) -> Option<MadeWith> {
    if !is_of(auth, name, credentials) {
        return None;
    }
    let secret = auth.secret.opened()?;
    let proves = |nonce: &Nonce| proves(auth, credentials, nonce);
    // spec: oma-dm 5.1 (the kind that was agreed on and no weaker one)
    if auth.kind == AuthKind::Basic {
        let is_right = credentials.credential.is_some_and(|it| secret.proves_basic(it));
        return is_right.then_some(MadeWith::NoNonce);
    }
    // spec: security 7.2 (a nonce is accepted once)
    if auth.next_nonce.as_ref().is_some_and(proves) {
        return Some(MadeWith::Stored);
    }
    let count = auth.challenge_count;
    if challenges.good(name, count).any(|nonce| proves(&nonce)) {
        return Some(MadeWith::Challenge);
    }
    // A peer without a row costs as much: the count before 0 was never used.
    let answered = challenges.good(name, count.wrapping_sub(1)).any(|nonce| proves(&nonce));
    answered.then_some(MadeWith::AnsweredChallenge)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proto::{dm::auth::Secret, time::Utc};

    use super::*;
    use crate::fleet::{challenge::tests::keys, store_tests};

    const NOW: Utc = Utc::from_seconds(20_000 * 86_400 + 5);
    const FRESH: Nonce = Nonce([9; 16]);

    fn auth() -> DeviceAuth {
        let mut auth = store_tests::device("a").auth;
        auth.secret = Secret::new("a", "right").into();
        auth.next_nonce = Some(Nonce([1; 16]));
        auth.challenge_count = 0;
        auth
    }

    fn credential(password: &str, nonce: [u8; 16]) -> Credential {
        Secret::new("a", password).credential(&nonce)
    }

    fn show(auth: &mut DeviceAuth, credential: &Credential, now: Utc) -> AuthOutcome {
        let credentials = ClientCredentials {
            credential: Some(credential),
            mac: None,
            user: Some("a"),
            source: "a",
        };
        authenticate(auth, "a", credentials, &keys(now), FRESH)
    }

    /// Asks without a credential; returns the nonce of the challenge.
    fn ask(auth: &mut DeviceAuth, now: Utc) -> [u8; 16] {
        let nothing =
            ClientCredentials { credential: None, mac: None, user: Some("a"), source: "a" };
        match authenticate(auth, "a", nothing, &keys(now), FRESH) {
            AuthOutcome::AuthRequired(nonce) => nonce.0,
            other @ (AuthOutcome::Accepted(_)
            | AuthOutcome::Stale(_)
            | AuthOutcome::AuthFailed(_)) => panic!("{other:?}"),
        }
    }

    // test: oma-dm 5 (212 and the nonce of the next session)
    #[test]
    fn the_enrolled_nonce_is_good_once() {
        let mut auth = auth();
        let credential = credential("right", [1; 16]);
        assert_eq!(show(&mut auth, &credential, NOW), AuthOutcome::Accepted(FRESH));
        assert_eq!(auth.next_nonce, Some(FRESH));
        assert_eq!(auth.challenge_count, 0, "no challenge was answered");
        assert!(matches!(show(&mut auth, &credential, NOW), AuthOutcome::AuthFailed(_)));
    }

    // test: security 7.2 (the owner beside a stranger)
    #[test]
    fn a_proof_for_the_stored_nonce_differs_from_one_for_a_challenge() {
        let mut auth = auth();
        let fits = |auth: &DeviceAuth, credential: &Credential, name: &str| {
            let credentials = ClientCredentials {
                credential: Some(credential),
                mac: None,
                user: Some("a"),
                source: name,
            };
            fits_stored_nonce(auth, "a", credentials)
        };
        assert!(fits(&auth, &credential("right", [1; 16]), "a"));
        assert!(!fits(&auth, &credential("right", [1; 16]), "b"));
        assert!(!fits(&auth, &credential("wrong", [1; 16]), "a"));
        let challenge = ask(&mut auth, NOW);
        assert!(!fits(&auth, &credential("right", challenge), "a"), "anybody has this nonce");
        auth.kind = AuthKind::Basic;
        assert!(!fits(&auth, &Credential::basic("a", "right"), "a"), "it has no nonce");
        auth.next_nonce = None;
        auth.kind = AuthKind::Md5;
        assert!(!fits(&auth, &credential("right", [1; 16]), "a"));
    }

    // test: security 7.2 (challenges without stored state)
    #[test]
    fn a_challenge_is_good_for_its_period_and_the_one_after() {
        let begin = Utc::from_seconds(20_000 * 86_400);
        for (at, good) in [(0, true), (599, true), (1_199, true), (1_200, false)] {
            let mut auth = auth();
            let answer = credential("right", ask(&mut auth, begin));
            let verdict = show(&mut auth, &answer, begin + Duration::from_secs(at));
            assert_eq!(matches!(verdict, AuthOutcome::Accepted(_)), good, "{at}");
        }
    }

    // test: security 7.2 (challenges without stored state)
    #[test]
    fn whoever_asks_the_challenge_of_the_owner_stays_good_and_the_row_as_it_is() {
        let mut auth = auth();
        let before = auth.clone();
        let nonce = ask(&mut auth, NOW);
        for number in 0..100 {
            ask(&mut auth, NOW);
            let wrong = credential("wrong", [number; 16]);
            assert!(matches!(show(&mut auth, &wrong, NOW), AuthOutcome::AuthFailed(_)));
        }
        assert_eq!(auth, before);
        let verdict = show(&mut auth, &credential("right", nonce), NOW);
        assert_eq!(verdict, AuthOutcome::Accepted(FRESH));
    }

    // test: security 7.2 (challenges without stored state)
    #[test]
    fn an_answer_is_accepted_once_and_its_repetition_challenged_and_not_wrong() {
        let mut auth = auth();
        // Two sessions are challenged at once.
        let [first, second] = [(); 2].map(|()| credential("right", ask(&mut auth, NOW)));
        assert_eq!(first, second);
        assert_eq!(show(&mut auth, &first, NOW), AuthOutcome::Accepted(FRESH));
        assert_eq!(auth.challenge_count, 1);
        let AuthOutcome::Stale(nonce) = show(&mut auth, &second, NOW) else { panic!() };
        assert_eq!(nonce.0, ask(&mut auth, NOW));
        let third = credential("right", nonce.0);
        assert_eq!(show(&mut auth, &third, NOW), AuthOutcome::Accepted(FRESH));
        // Two counts ago it is a wrong one.
        assert!(matches!(show(&mut auth, &third, NOW), AuthOutcome::Stale(_)));
        assert!(matches!(show(&mut auth, &first, NOW), AuthOutcome::AuthFailed(_)));
    }

    // test: security 7.2 (challenges without stored state)
    #[test]
    fn a_clock_that_goes_back_by_an_hour_costs_one_challenge() {
        let mut auth = auth();
        let asked = ask(&mut auth, NOW);
        let earlier = Utc(NOW.0 - 3_600_000);
        let AuthOutcome::AuthFailed(again) = show(&mut auth, &credential("right", asked), earlier)
        else {
            panic!()
        };
        let verdict = show(&mut auth, &credential("right", again.0), earlier);
        assert_eq!(verdict, AuthOutcome::Accepted(FRESH));
        // The nonce for the next session does not know the time.
        let next = credential("right", FRESH.0);
        assert_eq!(show(&mut auth, &next, Utc(0)), AuthOutcome::Accepted(FRESH));
    }

    #[test]
    fn a_wrong_password_or_user_is_answered_with_a_challenge() {
        let mut auth = auth();
        let verdict = show(&mut auth, &credential("wrong", [1; 16]), NOW);
        let challenge = Nonce(ask(&mut auth, NOW));
        assert_eq!(verdict, AuthOutcome::AuthFailed(challenge.clone()));
        let right = credential("right", [1; 16]);
        let credentials =
            ClientCredentials { credential: Some(&right), mac: None, user: Some("b"), source: "a" };
        assert_eq!(
            authenticate(&mut auth, "a", credentials, &keys(NOW), FRESH),
            AuthOutcome::AuthFailed(challenge)
        );
        let credentials = ClientCredentials { source: "b", user: None, ..credentials };
        let verdict = authenticate(&mut auth, "a", credentials, &keys(NOW), FRESH);
        assert!(matches!(verdict, AuthOutcome::AuthFailed(_)), "the message of another device");
        assert_eq!(auth.next_nonce, Some(Nonce([1; 16])), "an unauthenticated peer cannot void it");
    }

    // test: security 7.2 (unknown devices)
    #[test]
    fn a_peer_without_a_row_is_challenged_and_never_accepted() {
        let octets = [6; 16];
        let nobody = auth_of_nobody("a", octets);
        let good = keys(NOW).nonce("a", 0);
        let nothing = ClientCredentials { credential: None, mac: None, user: None, source: "a" };
        let outcome = |credentials| refuse_unknown("a", credentials, &keys(NOW), octets);
        assert_eq!(outcome(nothing), AuthOutcome::AuthRequired(good.clone()));
        let guessed = [
            nobody.secret.opened().unwrap().credential(&good.0),
            nobody.secret.opened().unwrap().credential(&octets),
        ];
        for credential in &guessed {
            let credential = Some(credential);
            let credentials =
                ClientCredentials { credential, mac: None, user: Some("a"), source: "a" };
            assert_eq!(outcome(credentials), AuthOutcome::AuthFailed(good.clone()));
        }
    }

    // test: oma-dm 5.1 (proof over each message)
    #[test]
    fn a_proof_over_the_message_is_good_once_and_for_that_message() {
        let mut auth = auth();
        auth.kind = AuthKind::Mac;
        let secret = Secret::new("a", "right");
        let of = |user: &str, nonce: [u8; 16]| Mac {
            user: user.to_owned(),
            mac: secret.mac(&nonce, b"body"),
        };
        let challenge = ask(&mut auth, NOW);
        let mut show = |mac: &Mac, body: &[u8]| {
            let credentials = ClientCredentials {
                credential: None,
                mac: Some((mac, body)),
                user: None,
                source: "a",
            };
            authenticate(&mut auth, "a", credentials, &keys(NOW), FRESH)
                == AuthOutcome::Accepted(FRESH)
        };
        assert!(!show(&of("a", [1; 16]), b"another"));
        assert!(!show(&of("b", [1; 16]), b"body"));
        assert!(show(&of("a", [1; 16]), b"body"));
        assert!(!show(&of("a", [1; 16]), b"body"), "the nonce is used");
        assert!(show(&of("a", FRESH.0), b"body"));
        assert!(show(&of("a", challenge), b"body"));
        assert!(!show(&of("a", challenge), b"body"), "the challenge is answered");
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
                let mut auth = auth();
                auth.kind = kind;
                let credentials = ClientCredentials { credential, mac, user: None, source: "a" };
                let verdict = authenticate(&mut auth, "a", credentials, &keys(NOW), FRESH);
                let accepted = matches!(verdict, AuthOutcome::Accepted(_));
                assert_eq!(accepted, kind == shown, "{kind} {shown}");
            }
        }
    }
}
