/** A name is not an address: what counts as this machine, as a Host, and as the same origin. */
import { describe, expect, it } from 'vitest';
import { isLoopback, isSameOrigin, parseAuthority } from '../../shared/net/address.ts';
import { webRefusal } from '../../shared/net/web.ts';

describe('loopback', () => {
  it.each([
    '127.0.0.1',
    '127.255.255.254',
    '::1',
    '[::1]',
    '0:0:0:0:0:0:0:1',
    '::1%lo',
    '::ffff:127.0.0.1',
    '::ffff:7f00:1',
    '[::FFFF:127.0.0.1]',
    'localhost',
    'LOCALHOST',
    'localhost.',
  ])('%s is', (host) => {
    expect(isLoopback(host)).toBe(true);
  });
  it.each([
    '127.0.0.1.evil.example',
    '127.evil.example',
    '127.',
    '127.1',
    '0177.0.0.1',
    '0x7f.0.0.1',
    '2130706433',
    '127.0.0.1.',
    '127.0.0.256',
    '1127.0.0.1',
    '128.0.0.1',
    '0.0.0.0',
    '::',
    '[::]',
    '::2',
    '::1:1',
    '::ffff:128.0.0.1',
    '::ffff:127.0.0.1.evil.example',
    '::127.0.0.1',
    'localhost.evil.example',
    'localhost..',
    'xlocalhost',
    'evil.localhost',
    '127.0.0.1 evil',
    '[127.0.0.1]',
    '',
  ])('%s is not', (host) => {
    expect(isLoopback(host)).toBe(false);
  });
});

describe('the Host header', () => {
  it.each([
    ['127.0.0.1:8080', '127.0.0.1', 8080],
    ['[::1]:8080', '[::1]', 8080],
    ['[0:0::1]', '[::1]', undefined],
    ['[::ffff:7f00:1]:1', '127.0.0.1', 1],
    ['Example.org.:80', 'example.org', 80],
    ['localhost', 'localhost', undefined],
  ])('%s is read', (text, host, port) => {
    expect(parseAuthority(text)).toEqual({ host, port });
  });
  it.each([
    '',
    ':80',
    'a:b',
    'a:1:2',
    'a:99999',
    '::1',
    '[::1',
    '[x]',
    'a@127.0.0.1',
    '127.0.0.1/x',
    'a b',
    '127.0.0.1#',
    'evil\\127.0.0.1',
  ])('%j is none', (text) => {
    expect(parseAuthority(text)).toBeUndefined();
  });
});

describe('the same origin', () => {
  it.each([
    ['http://127.0.0.1:8080', '127.0.0.1:8080', true],
    ['http://localhost', 'localhost:80', true],
    ['https://a.example', 'A.EXAMPLE', true],
    ['http://[::1]:80', '[0::1]', true],
    ['http://127.0.0.1.evil.example:8080', '127.0.0.1:8080', false],
    ['http://127.0.0.1:8081', '127.0.0.1:8080', false],
    ['http://a.example', 'b.example', false],
    ['null', '127.0.0.1', false],
    ['file://', '', false],
    ['', '', false],
    ['ftp://a.example', 'a.example', false],
  ])('%s and %s: %s', (origin, host, is) => {
    expect(isSameOrigin(origin, host)).toBe(is);
  });
});

describe('the guard of Host and Origin', () => {
  const open = { onlyLoopback: true, asksWho: false, anyOrigin: false };
  it('where nobody is asked, the Host has to be this machine, whatever the Origin', () => {
    const evil = { host: '127.0.0.1.evil.example', origin: 'http://127.0.0.1.evil.example' };
    expect(webRefusal({ ...evil, changes: true }, open)).toMatch(/not a name of this machine/);
    expect(webRefusal({ ...evil, origin: undefined, changes: false }, open)).toMatch(/not a name/);
    expect(webRefusal({ host: undefined, origin: undefined, changes: false }, open)).toBeDefined();
    const own = { host: '127.0.0.1:1', origin: 'http://127.0.0.1:1', changes: true };
    expect(webRefusal(own, open)).toBeUndefined();
    expect(webRefusal({ ...own, origin: 'http://evil.example' }, open)).toMatch(/evil/);
  });
  it('where a token is asked for, a foreign page still changes nothing', () => {
    const door = { ...open, asksWho: true };
    const asked = { host: 'site.example', origin: 'http://evil.example' };
    expect(webRefusal({ ...asked, changes: true }, door)).toMatch(/evil/);
    expect(webRefusal({ ...asked, changes: false }, door)).toBeUndefined();
  });
});
