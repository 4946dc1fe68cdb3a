import { parentPort, workerData } from 'node:worker_threads';
import { closeFd } from '../../sys/fd.ts';

// A closer: it closes what it is sent and answers with what went wrong. A close(2) that hangs holds this thread and
// nothing else.

/** How many of the descriptors it was sent last it has begun to close; read by others where it ends before it answers. */
const begun = new Int32Array(workerData as SharedArrayBuffer);

parentPort?.on('message', (fds: readonly number[] | 'end') => {
  if (fds === 'end') {
    parentPort?.close();
    return;
  }
  const faults: string[] = [];
  for (const [index, fd] of fds.entries()) {
    Atomics.store(begun, 0, index + 1);
    try {
      closeFd(fd);
    } catch (error) {
      faults.push(String(error));
    }
  }
  parentPort?.postMessage(faults);
});
