/** Topic aliases of a client, which end with its connection [MQTT-3.3.2-7 to -12]. */
import type { Publish } from './packets.ts';
import { REASON, Refusal, protocolError } from './reasons.ts';

/** That a client may use [MQTT-3.2.2-17]; some use eight without asking. */
export const ALIASES_MAX = 16;
/** Of all topics that a connection has aliases for: there may be thousands of connections. */
const ALIASED_CHARS_MAX = 16 * 1024;

export class TopicAliases {
  private readonly topics = new Map<number, string>();
  private chars = 0;

  /** The topic of a PUBLISH; one that comes with an alias is kept for it. */
  topicOf({ topic, said }: Publish): string {
    const alias = said.numbers.topicAlias;
    if (alias === undefined) {
      if (topic === '') protocolError('neither topic nor alias');
      return topic;
    }
    if (alias === 0 || alias > ALIASES_MAX)
      throw new Refusal(
        REASON.topicAliasInvalid,
        `topic alias ${alias}, ${ALIASES_MAX} is the largest`,
      );
    if (topic === '')
      return this.topics.get(alias) ?? protocolError(`topic alias ${alias} is not known`);
    this.chars += topic.length - (this.topics.get(alias)?.length ?? 0);
    if (this.chars > ALIASED_CHARS_MAX)
      throw new Refusal(
        REASON.quotaExceeded,
        `topics with aliases have more than ${ALIASED_CHARS_MAX} characters`,
      );
    this.topics.set(alias, topic);
    return topic;
  }
}
