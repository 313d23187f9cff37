//! What a message costs in allocations, and what an idle connection keeps.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use support::*;
use tidegate_websocket::WebSocket;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

#[test]
fn the_counter_counts() {
    assert_eq!(measure(|| drop(black_box(Box::new(1)))).count_total, 1);
}

fn read(socket: &mut WebSocket<DuplexStream>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
    let cx = &mut Context::from_waker(Waker::noop());
    Pin::new(socket).poll_read(cx, buf)
}

fn write(socket: &mut WebSocket<impl AsyncRead + AsyncWrite + Unpin>, bytes: &[u8]) {
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(Pin::new(socket).poll_write(cx, bytes).is_ready());
}

fn send(client: &mut DuplexStream, bytes: &[u8]) {
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(matches!(
        Pin::new(client).poll_write(cx, bytes),
        Poll::Ready(Ok(n)) if n == bytes.len()
    ));
}

#[test]
fn reading_and_writing_frames_allocates_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let (mut client, mut socket) = runtime.block_on(connected());
    let mut buffer = vec![0; 64 << 10];
    let payload = pattern(10_000);
    let frames: Vec<u8> = payload.chunks(100).flat_map(binary).collect();
    // The pipe between the two has its buffers after the first use.
    for measured in [false, true] {
        let cost = measure(|| {
            // In three reads, with headers cut in two.
            for part in frames.chunks(4_001) {
                send(&mut client, part);
                let mut buf = ReadBuf::new(&mut buffer);
                assert!(matches!(read(&mut socket, &mut buf), Poll::Ready(Ok(()))));
                assert!(buf.filled().len() > 2_000);
            }
            for len in [1, 100, 200, 10_000] {
                write(&mut socket, &payload[..len]);
            }
        });
        let mut heard = vec![0; 64 << 10];
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(
            Pin::new(&mut client)
                .poll_read(cx, &mut ReadBuf::new(&mut heard))
                .is_ready()
        );
        if measured {
            assert_eq!(cost.count_total, 0);
        }
    }
}

#[test]
fn control_frames_leave_no_memory_behind() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let (mut client, mut socket) = runtime.block_on(connected());
    let mut buffer = vec![0; 4_096];
    // The pipe between the two has its buffers after the first use.
    send(&mut client, &binary(&[0; 200]));
    assert!(read(&mut socket, &mut ReadBuf::new(&mut buffer)).is_ready());
    write(&mut socket, &[0; 1_000]);
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(
        Pin::new(&mut client)
            .poll_read(cx, &mut ReadBuf::new(&mut buffer))
            .is_ready()
    );
    let controls = [frame(FIN | PING, &[1; 125]), frame(FIN | PONG, &[2; 125])];
    let cost = measure(|| {
        for control in &controls {
            // In parts, so that it has to be kept for a while.
            for part in control.chunks(60) {
                send(&mut client, part);
                assert!(read(&mut socket, &mut ReadBuf::new(&mut buffer)).is_pending());
            }
        }
    });
    assert_eq!(cost.count_total, 1, "{cost:?}");
    assert_eq!(cost.count_current, 0, "it is given back");
    assert!(cost.bytes_max < 1_024, "{cost:?}");
}
