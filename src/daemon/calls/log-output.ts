import { fstatSync, writeSync } from 'node:fs';
import { watchWritable, type Watch } from '../../sys/readiness.ts';
import { openFile } from '../../sys/file.ts';
import { descriptorPath } from '../../sys/path.ts';
import { sendMessage } from '../../sys/socket.ts';

/** Sends as much as goes without waiting; how many bytes went, or `again`. Throws where nobody will ever read. */
type Send = (bytes: Uint8Array) => number | 'again';

/** The part of the buffer from which on lines are dropped that are no decisions, and no decision is made. */
const behindPart = 4;

/**
 * Where the log goes. A line is written before write() returns, as long as whoever reads keeps up. Where the reader does
 * not, the service does not wait for it: lines wait in a bounded buffer. Decisions that could not be looked up later
 * are not made (`isBehind`); other lines are dropped, and their number is told once there is room.
 */
export class LogOutput {
  readonly #fd: number;
  readonly #send: Send;
  readonly #bytesMax: number;
  readonly #failed: () => void;
  #waiting: Uint8Array[] = [];
  #bytes = 0;
  #dropped = 0;
  #watch: Watch | undefined;
  #whenDrained: (() => void)[] = [];

  /** Writes to `fd`, standard output for one, with at most `bytesMax` waiting; `failed` is called where that is gone. */
  constructor(fd: number, bytesMax: number, failed: () => void) {
    this.#bytesMax = bytesMax;
    this.#failed = failed;
    const kind = fstatSync(fd);
    if (kind.isSocket()) {
      this.#fd = fd;
      this.#send = (bytes) => sendMessage(fd, bytes);
    } else {
      // Opened anew: others may have the same pipe, and need not expect that it no longer waits.
      this.#fd = kind.isFIFO()
        ? openFile(descriptorPath(fd), { access: 'write', nonBlocking: true }).take()
        : fd;
      this.#send = (bytes) => writeNow(this.#fd, bytes);
    }
  }

  /** For lines that say what was decided. */
  readonly decisions: { write(line: string): void } = {
    write: (line) => {
      this.#write(line, this.#bytesMax);
    },
  };

  /** For all other lines. */
  readonly others: { write(line: string): void } = {
    write: (line) => {
      this.#write(line, this.#bytesMax / behindPart);
    },
  };

  /** Whether so much waits that nothing more is to be decided; lines of decisions that are under way still have room. */
  get isBehind(): boolean {
    return this.#bytes >= this.#bytesMax / behindPart;
  }

  /** Resolves once nothing waits. */
  drained(): Promise<void> {
    if (this.#waiting.length === 0) return Promise.resolve();
    return new Promise((resolve) => this.#whenDrained.push(resolve));
  }

  #write(line: string, bytesMax: number): void {
    const bytes = Buffer.from(line);
    if (this.#bytes + bytes.length > bytesMax) {
      this.#dropped += 1;
      return;
    }
    this.#waiting.push(bytes);
    this.#bytes += bytes.length;
    if (this.#watch === undefined) this.#flush();
  }

  #flush(): void {
    try {
      for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
        const sent = this.#send(next);
        if (sent === 'again') {
          this.#watch ??= watchWritable(this.#fd, () => {
            this.#flush();
          });
          return;
        }
        this.#bytes -= sent;
        if (sent < next.length) this.#waiting[0] = next.subarray(sent);
        else this.#waiting.shift();
      }
    } catch {
      this.#failed();
      return;
    }
    this.#watch?.stop();
    this.#watch = undefined;
    for (const resolve of this.#whenDrained.splice(0)) resolve();
    this.#tellDropped();
  }

  #tellDropped(): void {
    if (this.#dropped === 0) return;
    const told = { level: 'error', time: Date.now(), dropped: this.#dropped, msg: 'log lines dropped' };
    this.#dropped = 0;
    this.others.write(`${JSON.stringify(told)}\n`);
  }
}

function writeNow(fd: number, bytes: Uint8Array): number | 'again' {
  try {
    return writeSync(fd, bytes);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EAGAIN') return 'again';
    throw error;
  }
}
