/** Why a situation (situations.ts) is seen otherwise here than at Mosquitto 2.1.2; docs/conformance.md shows it. */
export const DIFFERENCES: Record<string, string> = {
  'a session taken over while it is resumed':
    'the first of two that come at once is closed before its CONNACK, which has no code for it; at Mosquitto it has had the message already, so that the second gets it with DUP',
  'a will with a delay and a clean start':
    'clean start ends the session, so the will is due at once [MQTT-3.1.2-8]; Mosquitto waits for its delay',
  'a will of a session without expiry, with a delay':
    'the session ends with its connection, so the will is due at once [MQTT-3.1.2-8]; Mosquitto waits for its delay',
  'a protocol error sends the will':
    'a second CONNECT gets its reason, and the will is sent at once; Mosquitto closes without a word',
  'a take-over sends a will without delay': 'Mosquitto sends none at a take-over [MQTT-3.1.4-3]',
  'a message whose publisher is gone is shared among those who are there':
    'members that are away are passed over while one is here; at Mosquitto two of three messages wait for them',
  'two subscriptions that overlap, with identifiers': 'the order of the two copies alone',
  'two subscriptions that overlap, without identifiers':
    'once, at the highest QoS [MQTT-3.3.4-2]; Mosquitto sends a copy for each',
  'a member that is lost with what it had: the other gets it':
    'what a member had when its session ended goes to another; Mosquitto drops it',
  'an alias of 0': '0x94 is the code for it (3.3.4); Mosquitto says 0x82',
  'neither topic nor alias': 'well formed and not allowed: 0x82; Mosquitto says 0x81',
  'a receive maximum of 1, and a PUBREC that refuses':
    'a PUBREC that refuses ends the delivery and makes room for the next [MQTT-4.9.0-2]; at Mosquitto it does not come',
  'topics that are odd':
    '$SYS gets 0x90, a wildcard too (0x81 at Mosquitto); who nobody listens to gets 0x00, since 0x10 breaks weak clients; a topic that begins with $share is stored like others',
  'filters that are odd':
    'a filter that is none is refused alone by its 0x8F, Mosquitto ends the connection; an empty name of a share is none [MQTT-4.8.2-1]; nothing is said on $SYS here',
  'QoS 2 that comes again is one message':
    'each repeat is answered [MQTT-4.3.3-10]; Mosquitto ends the connection at the third, and the message is lost with it',
  'PUBREL, PUBREC, PUBACK and PUBCOMP of an id that nobody has':
    '0x92 says that nobody has it; Mosquitto says success',
  'a second CONNECT, AUTH, and packets of servers':
    'a second CONNECT gets 0x82; Mosquitto closes without a word',
  'text that is no UTF-8':
    'U+FFFF is well-formed UTF-8, which a server may take (1.5.4); Mosquitto does not. 0x10 as above',
  'what was not acknowledged comes again with DUP and its id':
    'PUBRELs go before PUBLISH packets, each in their own order (4.4.0-1 asks for no other)',
  'a property twice, of another packet, and one that does not exist':
    'a property of another packet is malformed (2.2.2.2): 0x81; Mosquitto says 0x82',
  'packet id 0, QoS 3, and no filter':
    'an empty list and identifier 0 are protocol errors (3.8.3, 3.8.2.1.2): 0x82; Mosquitto says 0x81',
  'a message that expires in 0 seconds':
    'who is here gets it, and nothing is kept of it; Mosquitto keeps it as one that never expires',
  'a payload that says it is UTF-8 and is not':
    'it is refused by its 0x99 (3.3.2.3.2 allows that); Mosquitto does not look at it',
  'reasons that are none, in acknowledgements and DISCONNECT':
    'a DISCONNECT with a reason that is none gets 0x82, and any but 0x00 sends the will [MQTT-3.14.4-3]; Mosquitto sends none',
  'keep alive': 'its end gets a reason: 0x8D; Mosquitto closes without a word',
};
