/**
 * The lake on HDFS over WebHDFS (Hadoop 3, "WebHDFS REST API").
 *
 * A file is created beside, its length is compared, and it is renamed over what may be there (rename2 with OVERWRITE).
 * CREATE and OPEN answer with a redirect to a DataNode, and only the second request carries the bytes. DataNodes send
 * `100 Continue` unasked, which `fetch` does not bear; `node:http` does.
 */
import { readFile } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { hasCode, HeadwaterError, messageOf } from '../../shared/errors.ts';
import { distrust } from '../../shared/net/distrust.ts';
import { PART, isLeft, type ObjectInfo, type ObjectStore } from './object-store.ts';

export interface HdfsOptions {
  /** http(s)://HOST:PORT of the NameNode. */
  base: string;
  /** Absolute, without a `/` at its end. */
  folder: string;
  /** Hadoop's simple authentication. */
  user: string;
}

interface Answer {
  status: number;
  location: string | undefined;
  /** Its content type. */
  type: string;
  body: Buffer;
}

interface FileStatus {
  pathSuffix: string;
  type: 'FILE' | 'DIRECTORY';
  length: number;
  modificationTime: number;
  fileId: number;
}

const TIMEOUT_MS = 60_000;
/** What HDFS says of the bytes of a file. */
const BYTES = 'application/octet-stream';
const NO_ANSWER = 'that is no answer of WebHDFS: look at the address, and at proxies in between';

function send(method: string, url: string, body?: Buffer): Promise<Answer> {
  const request = url.startsWith('https:') ? httpsRequest : httpRequest;
  return new Promise((resolve, reject) => {
    const headers =
      body === undefined
        ? {}
        : { 'content-type': 'application/octet-stream', 'content-length': body.length };
    const outgoing = request(url, { method, headers, timeout: TIMEOUT_MS }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          location: response.headers.location,
          type: response.headers['content-type'] ?? '',
          body: Buffer.concat(chunks),
        }),
      );
    });
    outgoing.on('timeout', () => outgoing.destroy(new Error(`no answer in ${TIMEOUT_MS} ms`)));
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

export class HdfsObjects implements ObjectStore {
  readonly kind = 'hdfs';
  readonly address: string;
  private readonly options: HdfsOptions;

  constructor(options: HdfsOptions) {
    this.options = options;
    this.address = `web${options.base.replace(/^http/, 'hdfs')}${options.folder}`;
  }

  private url(key: string, operation: string, more = ''): string {
    const { base, folder, user } = this.options;
    // A percent sign in a key is a character of the name.
    const path = `${folder}/${key}`.split('/').map(encodeURIComponent).join('/');
    return `${base}/webhdfs/v1${path}?op=${operation}&user.name=${encodeURIComponent(user)}${more}`;
  }

  /** Throws NOT_FOUND and LAKE_UNAVAILABLE. `body` goes to where the first answer points. */
  private async call(doing: string, method: string, url: string, body?: Buffer): Promise<Answer> {
    const where = `the lake at ${this.address}: ${doing}`;
    let answer: Answer;
    try {
      answer = await send(method, url);
      if (answer.location !== undefined && answer.status === 307)
        answer = await send(method, answer.location, body);
      // 201 is a file that was written; whoever does not send the bytes on has not taken them.
      if (body !== undefined && answer.status !== 201 && answer.status < 300)
        throw new Error(NO_ANSWER);
    } catch (error) {
      throw new HeadwaterError(
        'LAKE_UNAVAILABLE',
        `${where}: ${distrust(error) ?? messageOf(error)}`,
        {
          cause: error,
        },
      );
    }
    if (/html/i.test(answer.type))
      throw new HeadwaterError(
        'LAKE_UNAVAILABLE',
        `${where}: HTTP ${answer.status} and a web page: ${NO_ANSWER}`,
      );
    if (answer.status < 300) return answer;
    if (answer.status === 404) throw new HeadwaterError('NOT_FOUND', `${where}: it is not there`);
    const said = /"message":"((?:[^"\\]|\\.)*)"/.exec(answer.body.toString('utf8'))?.[1];
    throw new HeadwaterError(
      'LAKE_UNAVAILABLE',
      `${where}: HTTP ${answer.status}: ${(said ?? '').split('\\n')[0]?.slice(0, 300) ?? ''}`,
    );
  }

  private isNone(doing: string): HeadwaterError {
    return new HeadwaterError(
      'LAKE_UNAVAILABLE',
      `the lake at ${this.address}: ${doing}: ${NO_ANSWER}`,
    );
  }

  /** What it answers under that name. */
  private async said<T>(doing: string, name: string, method: string, url: string): Promise<T> {
    const { body } = await this.call(doing, method, url);
    let answer: unknown;
    try {
      answer = (JSON.parse(body.toString('utf8')) as Record<string, unknown> | null)?.[name];
    } catch {
      // Somebody else has answered.
    }
    if (answer === undefined) throw this.isNone(doing);
    return answer as T; // As the REST API describes it.
  }

  private async isTrue(doing: string, method: string, url: string): Promise<boolean> {
    return await this.said<boolean>(doing, 'boolean', method, url);
  }

  async open(): Promise<void> {
    await this.makeFolder('');
  }

  private async makeFolder(key: string): Promise<void> {
    if (!(await this.isTrue('making a folder', 'PUT', this.url(key, 'MKDIRS'))))
      throw new HeadwaterError(
        'LAKE_UNAVAILABLE',
        `the lake at ${this.address}: the folder '${key}' cannot be made`,
      );
  }

  async put(key: string, file: string): Promise<void> {
    const body = await readFile(file);
    const doing = `writing ${key}`;
    const part = `${key}${PART}`;
    await this.call(doing, 'PUT', this.url(part, 'CREATE', '&overwrite=true'), body);
    const { length } = await this.status(part);
    if (length !== body.length)
      throw new HeadwaterError(
        'LAKE_UNAVAILABLE',
        `the lake at ${this.address}: ${doing}: ${length} of ${body.length} bytes arrived`,
      );
    const { folder } = this.options;
    const destination = encodeURIComponent(`${folder}/${key}`);
    const more = `&destination=${destination}&renameoptions=OVERWRITE`;
    await this.call(doing, 'PUT', this.url(part, 'RENAME', more));
  }

  private async status(key: string): Promise<FileStatus> {
    const url = this.url(key, 'GETFILESTATUS');
    return await this.said<FileStatus>(`looking at ${key}`, 'FileStatus', 'GET', url);
  }

  async get(key: string): Promise<Buffer> {
    const doing = `reading ${key}`;
    const { type, body } = await this.call(doing, 'GET', this.url(key, 'OPEN'));
    if (!type.startsWith(BYTES)) throw this.isNone(doing);
    return body;
  }

  async list(prefix: string): Promise<ObjectInfo[]> {
    const found: ObjectInfo[] = [];
    await this.walk(prefix.replace(/\/$/, ''), found);
    return found.sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  private async walk(at: string, found: ObjectInfo[]): Promise<void> {
    let entries: FileStatus[];
    try {
      const url = this.url(at, 'LISTSTATUS');
      type Listed = { FileStatus: FileStatus[] };
      const listed = await this.said<Listed>(`listing ${at}`, 'FileStatuses', 'GET', url);
      entries = listed.FileStatus;
    } catch (error) {
      if (hasCode(error, 'NOT_FOUND')) return;
      throw error;
    }
    for (const { pathSuffix, type, length, modificationTime, fileId } of entries) {
      const key = at === '' ? pathSuffix : `${at}/${pathSuffix}`;
      if (type === 'DIRECTORY') await this.walk(key, found);
      else if (!key.endsWith(PART))
        found.push({ key, bytes: length, version: `${fileId}-${modificationTime}` });
      // For who may only read it stays.
      else if (isLeft(modificationTime)) await this.remove(key).catch(() => undefined);
    }
  }

  async remove(key: string): Promise<void> {
    // `false` when there was nothing.
    await this.isTrue(`removing ${key}`, 'DELETE', this.url(key, 'DELETE'));
  }

  path(): undefined {
    return undefined;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
