/** The numbered statements of MQTT 3.1.1 (OASIS, 29 October 2014), as in statements5.ts. */
export const STATEMENTS_311 = `
1.5.3-1 text is well-formed UTF-8
1.5.3-2 text holds no U+0000
1.5.3-3 U+FEFF is a character like others and stays
2.2.2-1 reserved flags are as the table says
2.2.2-2 flags that are not valid close the connection
2.3.1-1 packet ids are not 0
2.3.1-2 a client gives an id that is not in use | client
2.3.1-3 a client sends again under the same id | client
2.3.1-4 both hold for the server as well
2.3.1-5 a PUBLISH of QoS 0 has no packet id
2.3.1-6 PUBACK, PUBREC and PUBREL have the id of their PUBLISH
2.3.1-7 SUBACK and UNSUBACK have the id of what they answer
3.1.0-1 the first packet is a CONNECT
3.1.0-2 a second CONNECT closes the connection
3.1.2-1 a wrong protocol name is not processed
3.1.2-2 another level is answered with 1 and closed
3.1.2-3 the reserved flag of CONNECT is 0
3.1.2-4 without clean session the one that is there goes on, and is kept afterwards
3.1.2-5 QoS 1 and 2 messages are kept for a session that is away
3.1.2-6 a clean session discards what was there and lasts as long as its connection
3.1.2-7 what is retained is not of a session
3.1.2-8 a will is published when the connection ends without DISCONNECT
3.1.2-9 with a will flag topic and message are there
3.1.2-10 a will is forgotten once published or after DISCONNECT
3.1.2-11 without a will flag its fields are not there
3.1.2-12 without a will flag nothing is published
3.1.2-13 without a will its QoS is 0
3.1.2-14 the QoS of a will is not 3
3.1.2-15 without a will its retain flag is 0
3.1.2-16 a will without retain is not retained
3.1.2-17 a will with retain is retained
3.1.2-18 without its flag there is no user name
3.1.2-19 with its flag there is a user name
3.1.2-20 without its flag there is no password
3.1.2-21 with its flag there is a password
3.1.2-22 no password without a user name
3.1.2-23 a client that says nothing sends PINGREQ in time | client
3.1.2-24 silence of one and a half keep alives ends the connection
3.1.3-1 the fields of the payload stand in their order
3.1.3-2 the client id names the session
3.1.3-3 there is a client id
3.1.3-4 the client id is UTF-8
3.1.3-5 ids of 1 to 23 letters and digits are taken
3.1.3-6 an empty id gets one that is unique
3.1.3-7 an empty id goes with a clean session | client
3.1.3-8 an empty id without clean session is answered with 2 and closed
3.1.3-9 a refused id is answered with 2 and closed
3.1.3-10 the will topic is UTF-8
3.1.3-11 the user name is UTF-8
3.1.4-1 a CONNECT that does not conform closes the connection
3.1.4-2 a newer connection of the id ends the older
3.1.4-3 clean session is done
3.1.4-4 success is said by CONNACK 0
3.1.4-5 what follows a refused CONNECT is not processed
3.2.0-1 CONNACK is the first packet
3.2.2-1 session present is 0 for a clean session
3.2.2-2 session present is 1 for one that is there
3.2.2-3 session present is 0 for a new one
3.2.2-4 session present is 0 in a refusal
3.2.2-5 a refusal closes the connection
3.2.2-6 where no code fits the connection closes without one
3.3.1-1 what is sent again has DUP
3.3.1-2 QoS 0 has no DUP
3.3.1-3 DUP is the sender's own
3.3.1-4 QoS 3 closes the connection
3.3.1-5 a retained message is kept with its QoS
3.3.1-6 a new subscription gets what is retained
3.3.1-7 a retained message of QoS 0 replaces the one before
3.3.1-8 what is sent for a new subscription has RETAIN
3.3.1-9 what is sent to an established one has not
3.3.1-10 an empty retained message is delivered and removes
3.3.1-11 an empty message is not retained
3.3.1-12 a message without the flag leaves what is retained
3.3.2-1 a PUBLISH begins with its topic, in UTF-8
3.3.2-2 a topic name has no wildcards
3.3.2-3 what is sent matches the filter
3.3.4-1 a PUBLISH is answered as its QoS asks
3.3.5-1 overlapping subscriptions: at their highest QoS
3.3.5-2 what is not authorized is acknowledged, or closes the connection
3.6.1-1 the flags of PUBREL are 0010
3.8.1-1 the flags of SUBSCRIBE are 0010
3.8.3-1 topic filters are UTF-8
3.8.3-2 a server without wildcards refuses them | wildcards are supported
3.8.3-3 a SUBSCRIBE has a filter
3.8.3-4 reserved bits of the QoS byte are 0, and QoS is not 3
3.8.4-1 SUBSCRIBE is answered
3.8.4-2 SUBACK has its id
3.8.4-3 the same filter replaces the subscription, and retained messages come again
3.8.4-4 several filters are as several packets with one answer
3.8.4-5 a return code for each filter
3.8.4-6 delivered at the lower of the published and granted QoS
3.9.3-1 codes stand in the order of the filters
3.9.3-2 codes are 0, 1, 2 and 0x80
3.10.1-1 the flags of UNSUBSCRIBE are 0010
3.10.3-1 the filters of UNSUBSCRIBE are UTF-8
3.10.3-2 an UNSUBSCRIBE has a filter
3.10.4-1 filters are compared character by character
3.10.4-2 nothing new is added for delivery
3.10.4-3 a delivery that has begun is completed
3.10.4-4 UNSUBSCRIBE is answered with its id
3.10.4-5 also where nothing was deleted
3.10.4-6 several filters are as several packets with one answer
3.12.4-1 PINGREQ is answered
3.14.1-1 the flags of DISCONNECT are 0
3.14.4-1 a client closes after DISCONNECT | client
3.14.4-2 a client sends nothing after DISCONNECT | client
3.14.4-3 DISCONNECT discards the will
4.1.0-1 session state is kept as long as the session
4.1.0-2 a session lasts at least as long as its connection
4.2.0-1 an ordered, lossless transport
4.3.1-1 QoS 0 is sent with DUP 0
4.3.2-1 QoS 1 as a sender: an unused id, DUP 0 at first, unacknowledged until PUBACK
4.3.2-2 QoS 1 as a receiver: answered with its id, afterwards the id is another message
4.3.3-1 QoS 2 as a sender: PUBREL for PUBREC, no PUBLISH after it
4.3.3-2 QoS 2 as a receiver: a repeat is answered and not delivered twice
4.4.0-1 a session that goes on gets again what was not acknowledged, with its ids
4.5.0-1 a message that was taken belongs to every matching session
4.5.0-2 a client acknowledges what it does not use | client
4.6.0-1 a client sends again in order | client
4.6.0-2 PUBACKs come in the order of their messages
4.6.0-3 PUBRECs come in the order of their messages
4.6.0-4 PUBRELs come in the order of their PUBRECs
4.6.0-5 every topic is ordered
4.6.0-6 messages of one client, topic and QoS stay in order
4.7.1-1 wildcards stand in filters alone
4.7.1-2 # stands alone or after /, at the end
4.7.1-3 + takes a whole level
4.7.2-1 filters that begin with a wildcard do not match $ topics
4.7.3-1 names and filters have a character
4.7.3-2 names and filters hold no U+0000
4.7.3-3 names and filters have at most 65,535 bytes | the length field has no more
4.7.3-4 names are compared as they are
4.8.0-1 a protocol violation closes the connection
4.8.0-2 an error that passes closes the connection | a buffer that is full withholds the acknowledgement instead (law 8)
6.0.0-1 WebSocket: binary frames alone
6.0.0-2 WebSocket: packets are not aligned to frames
6.0.0-3 WebSocket: mqtt is among the subprotocols asked for
6.0.0-4 WebSocket: mqtt is the subprotocol chosen
7.0.0-1 a server that connects to servers is a client as well | the uplink is a client of its own collector alone
7.0.0-2 nothing outside the specification is needed | what conforming clients show in test/e2e/clients.test.ts
7.1.1-1 a server offers an ordered, lossless transport
7.1.2-1 a client uses an ordered, lossless transport | client
`;
