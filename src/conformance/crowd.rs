//! Many calls at once.

use std::sync::Arc;

use tokio::{sync::Barrier, task::JoinSet};

use super::subject::Subject;

/// Makes calls at the same time, on all connections in turn, and gives the answers in the order of
/// the calls.
pub(super) async fn at_once<T, C, F>(store: &Subject, calls: Vec<C>) -> Vec<T>
where
    T: Send + 'static,
    C: FnOnce(Subject) -> F + Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let start = Arc::new(Barrier::new(calls.len()));
    let mut tasks = JoinSet::new();
    for (number, call) in calls.into_iter().enumerate() {
        let store = store.on(number).crowded();
        let start = Arc::clone(&start);
        tasks.spawn(async move {
            start.wait().await;
            (number, call(store).await)
        });
    }
    let mut answers = tasks.join_all().await;
    answers.sort_by_key(|(number, _)| *number);
    answers.into_iter().map(|(_, answer)| answer).collect()
}
