import { parentPort, workerData } from 'node:worker_threads';

import type { AddingAnswer, AddingRequest } from './adding.ts';
import { addFiles, toAddingFault } from './adding.ts';
import { ObjectStore } from './objects.ts';

// The program of a thread that adds files to a store: see object-threads.ts, which starts it and owns the descriptors.

const store = ObjectStore.open(String(workerData));

async function answer(request: AddingRequest): Promise<AddingAnswer> {
  const { id } = request;
  if (request.kind === 'add') return { id, files: await addFiles(store, request.fds) };
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
