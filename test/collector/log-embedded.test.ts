import { EmbeddedLog } from '../../collector/log/embedded.ts';
import { logContract } from '../contract/log.ts';
import { temporaryFolder } from '../support/process.ts';

logContract('embedded', () => {
  const folder = temporaryFolder();
  return Promise.resolve({
    create: () =>
      Promise.resolve(
        new EmbeddedLog(
          { folder, cacheBytes: 1 << 20, trim: {}, now: () => Date.now() },
          () => undefined,
        ),
      ),
    stop: () => Promise.resolve(),
  });
});
