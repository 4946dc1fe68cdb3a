import { parentPort } from 'node:worker_threads';
import { closeFd } from '../sys/fd.ts';

// A closer: it closes what it is sent and answers with what went wrong. A close(2) that hangs holds this thread and
// nothing else.

// Whoever hears nothing of a thread knows that it has closed nothing.
parentPort?.postMessage('started');
parentPort?.on('message', (fds: readonly number[] | 'end') => {
  if (fds === 'end') {
    parentPort?.close();
    return;
  }
  const faults: string[] = [];
  for (const fd of fds) {
    try {
      closeFd(fd);
    } catch (error) {
      faults.push(String(error));
    }
  }
  parentPort?.postMessage(faults);
});
