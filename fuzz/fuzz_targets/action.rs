//! The decoder of actions: any body, any reply of the store. The first byte chooses the reply, by
//! its place after `0`; each `$` stands for a secret.

#![no_main]

use libfuzzer_sys::fuzz_target;
use oracle::{
    PLANTED,
    store::{Invoker, Reply},
};

thread_local!(static INVOKER: Invoker = Invoker::default());

fuzz_target!(|data: &[u8]| {
    let Some((choice, body)) = data.split_first() else { return };
    let reply = Reply::ALL[usize::from(choice.wrapping_sub(b'0')) % Reply::ALL.len()];
    let body: Vec<u8> = body
        .iter()
        .flat_map(|byte| match byte {
            b'$' => PLANTED.as_bytes(),
            byte => std::slice::from_ref(byte),
        })
        .copied()
        .collect();
    INVOKER.with(|invoker| invoker.check(reply, &body));
});
