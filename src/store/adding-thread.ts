import { parentPort, workerData } from 'node:worker_threads';

import type { Added, AddingAnswer, AddingRequest } from './adding.ts';
import { toAddingFault } from './adding.ts';
import { ObjectStore } from './objects.ts';

// The program of a thread that adds files to a store: see object-threads.ts, which starts it and owns the descriptors.

const store = ObjectStore.open(String(workerData));

async function add(fd: number): Promise<Added> {
  try {
    return { stored: await store.add(fd) };
  } catch (error) {
    return { fault: toAddingFault(error) };
  }
}

async function answer(request: AddingRequest): Promise<AddingAnswer> {
  const { id } = request;
  // All at once: what has to be written waits for the disk, and what is there already is done by then.
  if (request.kind === 'add') return { id, files: await Promise.all(request.fds.map(add)) };
  try {
    await store.sync();
    return { id, files: [] };
  } catch (error) {
    return { id, files: [], fault: toAddingFault(error) };
  }
}

parentPort?.on('message', (request: AddingRequest) => {
  void answer(request).then((reply) => parentPort?.postMessage(reply));
});
