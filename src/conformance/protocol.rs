//! What a store owes gRPC, and its other callers on other connections.

use std::time::Duration;

use http::Uri;
use tonic::{Code, Request, client::Grpc};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_prost::ProstCodec;

use super::{
    case::{Case, Checked, Failure, Level, NotPassed},
    sections,
    subject::Subject,
    update::Update,
};
use crate::{
    proto::user_store_server::SERVICE_NAME,
    store::{code_name, remote::Balancer},
};

const PRIMARY: &str = "Read from where was written, and wait for the commit before you answer: a replica that lags, or a cache, signs people out.";

pub(super) const CASES: &[Case] = &[
    Case::must(
        "consistency.reads-see-creates",
        "A user whose creation was acknowledged is found on every other connection.",
        sections::COST,
        PRIMARY,
        |store| Box::pin(reads_see_creates(store)),
    ),
    Case::must(
        "consistency.reads-see-updates",
        "An update that was acknowledged is seen on every other connection.",
        sections::COST,
        PRIMARY,
        |store| Box::pin(reads_see_updates(store)),
    ),
    Case::must(
        "consistency.reads-see-deletes",
        "A user whose deletion was acknowledged is found on no other connection.",
        sections::COST,
        PRIMARY,
        |store| Box::pin(reads_see_deletes(store)),
    ),
    Case::not_checkable(
        Level::Must,
        "consistency.writes-are-durable",
        "A write is durable before it is acknowledged.",
        sections::OBLIGATIONS,
        "the store would have to be crashed",
        "Commit, with the database set to wait for its disk, before you answer.",
    ),
    Case::not_checkable(
        Level::Must,
        "protocol.transient-conflict-is-aborted",
        "A deadlock, a serialization failure or a lock wait that ends is ABORTED, and has changed nothing.",
        sections::ERRORS,
        "no call can bring a conflict about for certain",
        "Answer ABORTED for these codes of the database, once the transaction was rolled back; hold a lock on a row by hand and try.",
    ),
    Case::must(
        "protocol.unknown-method",
        "A method that the service does not have is UNIMPLEMENTED.",
        sections::OBLIGATIONS,
        "gRPC libraries do this by themselves: look for a proxy or a catch-all handler in between.",
        |store| Box::pin(unknown_method(store)),
    ),
    Case::should(
        "protocol.health",
        "Where grpc.health.v1 knows the service, it says SERVING.",
        sections::OBLIGATIONS,
        "Set the status of faroe.userstore.v1.UserStore to SERVING when the store can be used; NOT_SERVING makes the sidecar not ready.",
        |store| Box::pin(health(store)),
    ),
    Case::should(
        "protocol.deadline",
        "After calls with a deadline of 1 ms the next ones work, on the same connection and on others.",
        sections::OBLIGATIONS,
        "A call that is cancelled must give its connection to the database back in order; with tonic raise http2_max_pending_accept_reset_streams.",
        |store| Box::pin(deadline(store)),
    ),
    Case::not_checkable(
        Level::Should,
        "protocol.stops-at-the-deadline",
        "A call whose deadline has passed is worked on no longer.",
        sections::OBLIGATIONS,
        "what a store does inside when nobody waits any more cannot be seen by its callers",
        "Pass the deadline or the cancellation of the call on to the database.",
    ),
    Case::should(
        "protocol.statuses-without-values",
        "The text of a status holds no email address: it is written to logs.",
        sections::ERRORS,
        "Write a text of your own; the message of a driver often quotes the value that it stumbled over.",
        |store| Box::pin(statuses_without_values(store)),
    ),
];

/// How many connections are looked at.
const OTHERS: usize = 3;

async fn reads_see_creates(store: Subject) -> Checked {
    for round in 0..10 {
        let here = store.on(round);
        let request = here.request(here.address("new"));
        let user = here
            .create(&request)
            .await
            .ok("a user with an email address that nobody has is created")?;
        for other in 1..=OTHERS {
            let there = store.on(round + other);
            let expected = "the user whose creation was acknowledged on another connection";
            there.get(&user.id).await.ok(expected)?;
            there.find(&request.email_address).await.ok(expected)?;
        }
    }
    Ok(())
}

async fn reads_see_updates(store: Subject) -> Checked {
    let mut user = store.user().await?;
    for (round, update) in (0..12).zip(Update::ALL.into_iter().cycle()) {
        let changed = update.succeed(&store.on(round), &user).await?;
        let before = std::mem::replace(&mut user, changed);
        for other in 1..=OTHERS {
            let there = store.on(round + other);
            let expected = "the update that was acknowledged on another connection";
            there.get(&user.id).await.is_user(&user, expected)?;
            there.find(&user.email_address).await.is_user(&user, expected)?;
            if user.email_address != before.email_address {
                there.is_free(&before.email_address).await?;
            }
        }
    }
    Ok(())
}

async fn reads_see_deletes(store: Subject) -> Checked {
    for round in 0..10 {
        let here = store.on(round);
        let user = here.user().await?;
        // Where look-ups are cached, this one is.
        here.elsewhere().get(&user.id).await;
        here.delete(&user.id).await.ok("a user who is there can be deleted")?;
        for other in 1..=OTHERS {
            let there = store.on(round + other);
            let expected = "the deletion was acknowledged on another connection";
            there.get(&user.id).await.is_refused(Code::NotFound, expected)?;
            there.find(&user.email_address).await.is_refused(Code::NotFound, expected)?;
        }
    }
    Ok(())
}

fn transport(store: &Subject) -> Result<(Balancer, Uri), NotPassed> {
    store.transport().ok_or_else(|| Failure::new("", "no connection", "a connection").into())
}

async fn unknown_method(store: Subject) -> Checked {
    let (balancer, origin) = transport(&store)?;
    let mut client = Grpc::with_origin(balancer, origin);
    let path = http::uri::PathAndQuery::from_static(
        "/faroe.userstore.v1.UserStore/NoMethodOfThisContract",
    );
    let mut request = Request::new(());
    request.set_timeout(store.timeout());
    let call = async {
        client.ready().await?;
        client.unary(request, path, ProstCodec::<(), ()>::default()).await.map(|_| ())
    };
    let came_back = match tokio::time::timeout(store.timeout(), call).await {
        Err(_) => format!("no answer within {:?}", store.timeout()),
        Ok(Ok(())) => "OK".to_owned(),
        Ok(Err(status)) if status.code() == Code::Unimplemented => return Ok(()),
        Ok(Err(status)) => format!("{} {:?}", code_name(status.code()), status.message()),
    };
    let sent = "NoMethodOfThisContract, of the same service";
    Err(Failure::new(sent, came_back, "UNIMPLEMENTED").into())
}

async fn health(store: Subject) -> Checked {
    let (balancer, origin) = transport(&store)?;
    let mut client = HealthClient::with_origin(balancer, origin);
    let mut request = Request::new(HealthCheckRequest { service: SERVICE_NAME.to_owned() });
    request.set_timeout(store.timeout());
    let came_back = match tokio::time::timeout(store.timeout(), client.check(request)).await {
        Err(_) => format!("no answer within {:?}", store.timeout()),
        Ok(Ok(answer)) => match answer.get_ref().status() {
            ServingStatus::Serving => return Ok(()),
            ServingStatus::ServiceUnknown => {
                return Err(NotPassed::NotPresent("grpc.health.v1 does not know the service"));
            }
            other => other.as_str_name().to_owned(),
        },
        Ok(Err(status)) => match status.code() {
            Code::Unimplemented => {
                return Err(NotPassed::NotPresent("the store has no grpc.health.v1"));
            }
            Code::NotFound => {
                return Err(NotPassed::NotPresent("grpc.health.v1 does not know the service"));
            }
            other => format!("{} {:?}", code_name(other), status.message()),
        },
    };
    let sent = format!("grpc.health.v1.Health/Check {{ service: {SERVICE_NAME:?} }}");
    let expected = "SERVING; or UNIMPLEMENTED or NOT_FOUND, where it does not watch the service";
    Err(Failure::new(sent, came_back, expected).into())
}

async fn deadline(store: Subject) -> Checked {
    let mut user = store.user().await?;
    for _ in 0..10 {
        // Whether it gets there in time is not known.
        store
            .increment_sessions_within(&user.id, user.sessions_counter, Duration::from_millis(1))
            .await;
        for connection in [0, 1] {
            let there = store.on(connection);
            there.get(&user.id).await.ok("a call that has time works after one that had none")?;
        }
        user = store.own(&user.id).await?;
    }
    // A write too. What was given up may still be on its way, and win.
    let new = store.request(store.address("new"));
    let counter = user.password_hash_counter;
    store
        .update_password_hash(&user.id, &new, counter)
        .await
        .ok("a call that has time works after one that had none")?;
    Ok(())
}

async fn statuses_without_values(store: Subject) -> Checked {
    let user = store.user().await?;
    let other = store.user().await?;
    let long = store.address("long").replace('@', &format!("{}@", "x".repeat(70_000)));
    let nul = store.address("nul").replace('@', "\0@");
    let counter = user.email_address_counter;
    let created = [
        store.create(&store.request(user.email_address.as_str())).await,
        store.create(&store.request(long)).await,
        store.create(&store.request(nul)).await,
        store.find(&store.address("nobody")).await,
    ];
    let texts = created.into_iter().map(|answer| (answer.sent, answer.reply.map(|_| ())));
    let updated = store.update_email_address(&user.id, &other.email_address, counter).await;
    let mut seen = false;
    for (sent, reply) in texts.chain([(updated.sent, updated.reply)]) {
        if let Err(refusal) = reply {
            seen |= refusal.code.is_some();
            if store.is_ours(&refusal.message) {
                let expected = "a text without the email address";
                return Err(Failure::new(sent, refusal.text, expected).into());
            }
        }
    }
    if !seen {
        let sent =
            "five calls that are to be refused, such as CreateUser with a taken email address";
        let expected = "a status for some of them: without one there is no text to be seen";
        return Err(Failure::new(sent, "no status at all", expected).into());
    }
    Ok(())
}
