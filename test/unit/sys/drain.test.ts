import { expect, test } from 'vitest';
import { drain, sendMessage } from '../../../src/sys/message.ts';
import { shutdownSocket, socketPair } from '../../../src/sys/socket.ts';

/** Whether drain() of a socket succeeds into which `send` has put something. */
function drained(send: (socket: number) => void): boolean {
  const [ours, theirs] = socketPair();
  using here = ours;
  using there = theirs;
  send(there.number);
  shutdownSocket(here.number, 'both');
  return drain(here.number);
}

const much = Buffer.alloc(48 * 1024, 0x78);

test('what came without descriptors is forgotten, however much it is', () => {
  expect(drained(() => undefined)).toBe(true);
  expect(
    drained((socket) => {
      for (let count = 0; count < 4; count++) sendMessage(socket, much);
    }),
  ).toBe(true);
});

test('descriptors stay where they are, wherever in the stream', () => {
  const rights = (socket: number): void => void sendMessage(socket, Buffer.from('x'), [socket]);
  expect(drained(rights)).toBe(false);
  expect(
    drained((socket) => {
      sendMessage(socket, much);
      rights(socket);
      sendMessage(socket, much);
    }),
  ).toBe(false);
});

test('a peer that has closed leaves nothing else behind than one that has not', () => {
  for (const fds of [true, false]) {
    const [ours, theirs] = socketPair();
    using here = ours;
    sendMessage(theirs.number, Buffer.from('x'), fds ? [here.number] : []);
    theirs.close();
    shutdownSocket(here.number, 'both');
    expect(drain(here.number)).toBe(!fds);
  }
});
