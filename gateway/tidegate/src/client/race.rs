//! Which of several addresses answers first (RFC 8305): over UDP nothing says that nobody is there.

use std::fmt::Debug;
use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep;

/// The next address is tried as well when those before have not answered for so long (RFC 8305 section 5).
const NEXT: Duration = Duration::from_millis(250);

/// Attempts the addresses in turn; the first that succeeds, or why the last one failed. `None`: there is no address.
pub(super) async fn race<F, T, E>(
    addresses: &[SocketAddr],
    attempt: impl Fn(SocketAddr) -> F,
) -> Option<Result<(SocketAddr, T), E>>
where
    F: Future<Output = Result<T, E>>,
    E: Debug,
{
    let attempt = |address| {
        let attempted = attempt(address);
        async move { attempted.await.map(|stream| (address, stream)) }
    };
    let mut rest = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut failed = None;
    loop {
        let next = rest.next();
        attempts.extend(next.map(|address| attempt(*address)));
        let patience = async {
            if rest.len() == 0 {
                pending::<()>().await;
            } else {
                sleep(NEXT).await;
            }
        };
        tokio::select! {
            answer = attempts.next() => match answer {
                Some(Ok(first)) => return Some(Ok(first)),
                Some(Err(error)) => failed = Some(error),
                // None is left.
                None => return failed.map(Err),
            },
            () = patience => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    const ADDRESSES: [SocketAddr; 3] = {
        let ip = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
        [
            SocketAddr::new(ip, 1),
            SocketAddr::new(ip, 2),
            SocketAddr::new(ip, 3),
        ]
    };

    #[tokio::test(start_paused = true)]
    async fn rfc8305_5_the_next_address_is_tried_while_one_does_not_answer() {
        let begun = Instant::now();
        let answer = race(&ADDRESSES, async |address: SocketAddr| {
            match address.port() {
                // Nobody is there.
                1 => pending().await,
                2 => Err("refused"),
                port => Ok(port),
            }
        });
        assert_eq!(answer.await, Some(Ok((ADDRESSES[2], 3))));
        // What is refused is not waited for.
        assert_eq!(begun.elapsed(), NEXT);
        let slow = race(&ADDRESSES, async |address: SocketAddr| {
            let late = NEXT * (2 + 10 * u32::from(address.port() - 1));
            sleep(late).await;
            Ok::<_, ()>(address.port())
        });
        assert_eq!(
            slow.await,
            Some(Ok((ADDRESSES[0], 1))),
            "it is not given up"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_answer_the_last_refusal_is_told() {
        let refuse = async |address: SocketAddr| Err::<(), _>(address.port());
        assert_eq!(race(&ADDRESSES, refuse).await, Some(Err(3)));
        assert_eq!(race(&[], refuse).await, None);
    }
}
