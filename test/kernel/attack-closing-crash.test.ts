import { once } from 'node:events';
import type { Worker } from 'node:worker_threads';
import { expect, onTestFinished, test } from 'vitest';
import { Closing, divide } from '../../src/daemon/connections/closing.ts';
import { watchReadable } from '../../src/sys/readiness.ts';
import { socketPair } from '../../src/sys/socket.ts';

const owner = { user: 1234 };

/** Two ends of a connection: where one is closed, the other is at its end. */
function connection(): { readonly sent: number; readonly ended: Promise<unknown> } {
  const [sent, watched] = socketPair();
  const ended = new Promise<void>((resolve) => {
    const watch = watchReadable(watched.number, () => {
      watch.stop();
      watched.close();
      resolve();
    });
  });
  return { sent: sent.take(), ended };
}

test('a closing thread that crashes is replaced, and its user’s descriptors are closed all the same', async () => {
  const bugs: unknown[] = [];
  const started = once(process, 'worker') as Promise<[Worker]>;
  const closing = new Closing({ threads: 2, idleThreads: 1 }, (error) => bugs.push(error));
  onTestFinished(() => {
    closing.stop();
  });
  // What it makes of this ends it; the descriptors reach it before anybody knows.
  const [worker] = await started;
  worker.postMessage({ no: 'descriptors' });
  const first = connection();
  closing.close([first.sent], owner);
  await first.ended;
  expect(bugs).toHaveLength(1);
  const second = connection();
  await new Promise<void>((closed) => {
    closing.close([second.sent], owner, closed);
  });
  await second.ended;
  expect(closing.backlog(owner.user)).toBe(0);
});

test('of what a closing thread was at when it crashed, one descriptor alone is not closed again', () => {
  const closed = (): void => undefined;
  const batches = [[3, 4], [5, 6, 7], [8]].map((fds) => ({ fds, closed }));
  const begun = (count: number): unknown => divide(batches, count);
  const [first, second, third] = batches;
  expect(begun(0)).toEqual({ closed: [], left: batches });
  expect(begun(1)).toEqual({ closed: [], left: [{ fds: [4], closed: undefined }, second, third] });
  // The last of a batch may not be closed: nobody is told that the batch is.
  expect(begun(2)).toEqual({ closed: [], left: [second, third] });
  expect(begun(3)).toEqual({ closed: [first], left: [{ fds: [6, 7], closed: undefined }, third] });
  expect(begun(6)).toEqual({ closed: [first, second], left: [] });
});
