import type { MountDelegationClient } from '../client/client.ts';
import { connect } from '../client/client.ts';

/** What `work` answers with a connection to the service, which is closed afterwards. */
export async function withClient<Result>(
  socket: string,
  work: (client: MountDelegationClient) => Promise<Result>,
): Promise<Result> {
  using client = await connect(socket);
  return await work(client);
}
