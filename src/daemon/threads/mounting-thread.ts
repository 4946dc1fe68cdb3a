import { parentPort } from 'node:worker_threads';
import { Stage } from '../../sys/stage.ts';
import { toFailure } from './failures.ts';
import { perform } from './perform.ts';
import type { TaskAnswer, TaskMessage } from './tasks.ts';

// A mounting thread: it does one task after another on a stage of its own.

/** Made with the first task that needs it: not every thread ever mounts. */
let stage: Stage | undefined;

function openStage(): Stage {
  stage ??= Stage.open();
  return stage;
}

parentPort?.on('message', (message: TaskMessage | 'end') => {
  if (message === 'end') {
    stage?.close();
    parentPort?.close();
    return;
  }
  const { task, fds } = message;
  let answer: TaskAnswer;
  try {
    answer = { ok: true, result: perform(task, fds, openStage) };
  } catch (error) {
    answer = { ok: false, failure: toFailure(error) };
  }
  parentPort?.postMessage(answer);
  // What a mount left on the stage goes once the answer is on its way.
  stage?.sweep();
});
