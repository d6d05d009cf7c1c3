//! Values that stores are tempted to change: any bytes, none, many, and more than fit.

use bytes::Bytes;
use tonic::Code;

use super::{
    case::{Case, Checked},
    cleanup::parts,
    sections,
    subject::Subject,
    update::{Update, after},
};
use crate::proto::{CreateUserRequest, User};

const BYTES: &str = "Hash and salt are bytes: a column of bytes (bytea, BLOB, VARBINARY), no text, no encoding, no padding.";
const WIDTH: &str =
    "Use a type that holds 64 KiB and more: MySQL's BLOB ends at 65,535 bytes, take MEDIUMBLOB.";
const TRUNCATION: &str = "Let the database refuse what does not fit (MySQL: strict mode), and answer INTERNAL; never cut a value.";

pub(super) const CASES: &[Case] = &[
    Case::must(
        "values.all-bytes",
        "Hash and salt may have every byte from 0 to 255 in them.",
        sections::MESSAGES,
        BYTES,
        |store| Box::pin(created(store, all_bytes)),
    ),
    Case::must(
        "values.all-bytes-updated",
        "UpdateUserPasswordHash keeps every byte from 0 to 255 too.",
        sections::MESSAGES,
        BYTES,
        |store| Box::pin(updated(store, all_bytes)),
    ),
    Case::must(
        "values.empty",
        "Hash, algorithm and salt may be empty.",
        sections::ACTIONS,
        "Arguments are not validated beyond their types; an empty value is no NULL.",
        |store| Box::pin(created(store, empty)),
    ),
    Case::must(
        "values.empty-updated",
        "UpdateUserPasswordHash can set an empty hash, algorithm and salt.",
        sections::ACTIONS,
        "An empty value is one to be set, not one that is missing.",
        |store| Box::pin(updated(store, empty)),
    ),
    Case::must(
        "values.64-kib",
        "A hash and a salt of 64 KiB are stored whole.",
        sections::MESSAGES,
        WIDTH,
        |store| Box::pin(created(store, large)),
    ),
    Case::must(
        "values.64-kib-updated",
        "UpdateUserPasswordHash sets a hash and a salt of 64 KiB.",
        sections::MESSAGES,
        WIDTH,
        |store| Box::pin(updated(store, large)),
    ),
    Case::must(
        "values.algorithm-as-sent",
        "The name of the algorithm is stored as it came: its case, its spaces, any character.",
        sections::MESSAGES,
        "The name is opaque: no enumeration, no trimming, no lower case.",
        |store| Box::pin(created(store, unusual_algorithm)),
    ),
    Case::must(
        "values.too-large-email-address",
        "An email address that is too large is an error that leaves nothing behind, and never stored in part.",
        sections::ACTIONS,
        TRUNCATION,
        |store| Box::pin(too_large_created(store, Member::EmailAddress)),
    ),
    Case::must(
        "values.too-large-password-hash",
        "A password hash that is too large is an error that leaves nothing behind, and never stored in part.",
        sections::ACTIONS,
        TRUNCATION,
        |store| Box::pin(too_large_created(store, Member::Hash)),
    ),
    Case::must(
        "values.too-large-algorithm",
        "A name of an algorithm that is too large is an error that leaves nothing behind, and never stored in part.",
        sections::ACTIONS,
        TRUNCATION,
        |store| Box::pin(too_large_created(store, Member::Algorithm)),
    ),
    Case::must(
        "values.too-large-salt",
        "A salt that is too large is an error that leaves nothing behind, and never stored in part.",
        sections::ACTIONS,
        TRUNCATION,
        |store| Box::pin(too_large_created(store, Member::Salt)),
    ),
    Case::must(
        "values.too-large-updates",
        "A value that is too large for an update is an error that leaves the user as they were, and never stored in part.",
        sections::ACTIONS,
        TRUNCATION,
        |store| Box::pin(too_large_updated(store)),
    ),
    Case::must(
        "values.nul-character",
        "A NUL character in an email address or an algorithm is stored like any other, or an error that leaves nothing behind; nothing is cut there.",
        sections::ACTIONS,
        "PostgreSQL's text cannot hold U+0000: answer INTERNAL. Do not end strings at it.",
        |store| Box::pin(nul_character(store)),
    ),
];

fn all_bytes(request: &mut CreateUserRequest) {
    request.password_hash = (0..=255).collect::<Vec<u8>>().into();
    request.password_salt = (0..=255).rev().collect::<Vec<u8>>().into();
}

fn empty(request: &mut CreateUserRequest) {
    request.password_hash = Bytes::new();
    request.password_salt = Bytes::new();
    request.password_hash_algorithm_id.clear();
}

fn large(request: &mut CreateUserRequest) {
    // Not of one byte only, so that a part that is missing or in the wrong place shows.
    request.password_hash = repeated(&request.password_hash, 64 << 10);
    request.password_salt = repeated(&request.password_salt, 64 << 10);
}

fn unusual_algorithm(request: &mut CreateUserRequest) {
    request.password_hash_algorithm_id =
        " ARGON2ID.\u{e9}e\u{301}\u{1f642}'\"%_\\ /$m=65536,t=3\t ".to_owned();
}

fn repeated(bytes: &[u8], length: usize) -> Bytes {
    let mut repeated = bytes.repeat(length.div_ceil(bytes.len().max(1)));
    repeated.truncate(length);
    repeated.into()
}

/// A user as a request made them, whatever the store says of the other members.
fn made_of(request: &CreateUserRequest, user: User) -> User {
    User {
        email_address: request.email_address.clone(),
        password_hash: request.password_hash.clone(),
        password_hash_algorithm_id: request.password_hash_algorithm_id.clone(),
        password_salt: request.password_salt.clone(),
        ..user
    }
}

async fn created(store: Subject, change: fn(&mut CreateUserRequest)) -> Checked {
    let mut request = store.request(store.address("values"));
    change(&mut request);
    let user = store.user_of(&request).await?;
    let due = made_of(&request, user);
    let expected = "every value as it was sent, byte for byte";
    store.get(&due.id).await.is_user(&due, expected)?;
    Ok(store.find(&due.email_address).await.is_user(&due, expected)?)
}

async fn updated(store: Subject, change: fn(&mut CreateUserRequest)) -> Checked {
    let user = store.user().await?;
    let mut request = store.request(user.email_address.as_str());
    change(&mut request);
    let counter = user.password_hash_counter;
    store
        .update_password_hash(&user.id, &request, counter)
        .await
        .ok("the counter is that of the user, and the values are some that every store holds")?;
    let mut due = made_of(&request, user);
    due.password_hash_counter = after(counter);
    let expected = "every value as it was sent, byte for byte";
    Ok(store.get(&due.id).await.is_user(&due, expected)?)
}

#[derive(Clone, Copy)]
enum Member {
    EmailAddress,
    Hash,
    Algorithm,
    Salt,
}

/// Sizes that are one too many for some type or index or other. All fit into a message of 4 MiB,
/// which is what gRPC servers take by default.
const SIZES: [usize; 5] = [400, 2_100, 9_000, 70_000, 1 << 20];

impl Member {
    fn enlarge(self, request: &mut CreateUserRequest, size: usize) {
        match self {
            Self::EmailAddress => {
                let pad = "x".repeat(size.saturating_sub(request.email_address.len()));
                request.email_address = request.email_address.replace('@', &format!("{pad}@"));
            }
            Self::Hash => request.password_hash = repeated(&request.password_hash, size),
            Self::Algorithm => request.password_hash_algorithm_id = "argon2id.".repeat(size / 9),
            Self::Salt => request.password_salt = repeated(&request.password_salt, size),
        }
    }
}

async fn too_large_created(store: Subject, member: Member) -> Checked {
    // A store that refuses everything shows nothing of what is too large.
    store.user().await?;
    for size in SIZES {
        let mut request = store.request(store.address("large"));
        member.enlarge(&mut request, size);
        whole_or_refused(&store, &request).await?;
    }
    Ok(())
}

const WHOLE_OR_ERROR: &str = "stored whole, or refused with INTERNAL (or any code but ALREADY_EXISTS, NOT_FOUND and ABORTED); never in part";

async fn whole_or_refused(store: &Subject, request: &CreateUserRequest) -> Checked {
    let answer = store.create(request).await;
    match &answer.reply {
        Ok(created) => {
            let created = store.own(&created.id).await?;
            let due = made_of(request, created);
            store.get(&due.id).await.is_user(&due, WHOLE_OR_ERROR)?;
            Ok(store.find(&due.email_address).await.is_user(&due, WHOLE_OR_ERROR)?)
        }
        Err(refusal) if refusal.is_an_error() => {
            let address = request.email_address.as_str();
            for address in std::iter::once(address).chain(parts(address)) {
                let found = store.find(address).await;
                // What cannot be stored may be nothing to look for either.
                if !matches!(&found.reply, Err(refusal) if refusal.is_an_error()) {
                    let expected = "a CreateUser that failed left nothing behind, whole or in part";
                    found.is_refused(Code::NotFound, expected)?;
                }
            }
            Ok(())
        }
        Err(_) => Err(answer.fails(WHOLE_OR_ERROR).into()),
    }
}

async fn too_large_updated(store: Subject) -> Checked {
    for member in [Member::EmailAddress, Member::Hash, Member::Algorithm, Member::Salt] {
        let user = store.user().await?;
        // A store that refuses everything shows nothing of what is too large.
        let update = match member {
            Member::EmailAddress => Update::EmailAddress,
            Member::Hash | Member::Algorithm | Member::Salt => Update::PasswordHash,
        };
        let mut user = update.succeed(&store, &user).await?;
        for size in SIZES {
            let mut request = store.request(store.address("large"));
            member.enlarge(&mut request, size);
            let answer = match member {
                Member::EmailAddress => {
                    let counter = user.email_address_counter;
                    store.update_email_address(&user.id, &request.email_address, counter).await
                }
                _ => {
                    let counter = user.password_hash_counter;
                    store.update_password_hash(&user.id, &request, counter).await
                }
            };
            match &answer.reply {
                Ok(()) if matches!(member, Member::EmailAddress) => {
                    user.email_address = request.email_address;
                    user.email_address_counter = after(user.email_address_counter);
                }
                Ok(()) => {
                    let address = user.email_address.clone();
                    user = User { email_address: address, ..made_of(&request, user) };
                    user.password_hash_counter = after(user.password_hash_counter);
                }
                Err(refusal) if refusal.is_an_error() => {}
                Err(_) => return Err(answer.fails(WHOLE_OR_ERROR).into()),
            }
            store.get(&user.id).await.is_user(&user, WHOLE_OR_ERROR)?;
        }
    }
    Ok(())
}

async fn nul_character(store: Subject) -> Checked {
    let address = store.address("nul");
    let user = store.user_of(&store.request(address.replace('@', "-left@"))).await?;
    let with_nul = address.replace('@', "\0right@");
    whole_or_refused(&store, &store.request(with_nul.as_str())).await?;
    let cut = with_nul.split('\0').next().unwrap_or_default();
    let expected = "nobody has the part of an email address before its NUL character";
    store.find(cut).await.is_refused(Code::NotFound, expected)?;
    let mut request = store.request(store.address("nul"));
    request.password_hash_algorithm_id = "argon2id\0.65536".to_owned();
    whole_or_refused(&store, &request).await?;
    Ok(store.is_unchanged(&user).await?)
}
