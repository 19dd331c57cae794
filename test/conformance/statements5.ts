/**
 * The numbered statements of MQTT 5.0 (OASIS, 7 March 2019), each in a few words of ours. After `|` stands why no test holds
 * one: `client` binds clients alone. A statement without a test in table.ts's files or a reason fails `npm run check`.
 */
export const STATEMENTS_5 = `
1.5.4-1 text is well-formed UTF-8
1.5.4-2 text holds no U+0000
1.5.4-3 U+FEFF is a character like others and stays
1.5.5-1 a variable byte integer has no more bytes than it needs
1.5.7-1 both texts of a pair are UTF-8
2.1.3-1 reserved flags are as the table says
2.2.1-2 a PUBLISH of QoS 0 has no packet id
2.2.1-3 packet ids of a client are not 0
2.2.1-4 packet ids of the server are not 0 and not in use
2.2.1-5 acknowledgements have the id of their PUBLISH
2.2.1-6 SUBACK and UNSUBACK have the id of what they answer
2.2.2-1 without properties their length of 0 is there
3.1.0-1 the first packet is a CONNECT
3.1.0-2 a second CONNECT is a protocol error
3.1.2-1 the protocol's name is MQTT
3.1.2-2 another version is refused
3.1.2-3 the reserved flag of CONNECT is 0
3.1.2-4 clean start discards the session that is there
3.1.2-5 without clean start a session that is there goes on
3.1.2-6 without clean start and session a new one is made
3.1.2-7 a will is kept with the session
3.1.2-8 a will is published when the connection has ended and its delay is over or the session ends
3.1.2-9 with a will flag topic and payload are there
3.1.2-10 a will is forgotten once published or after DISCONNECT 0x00
3.1.2-11 without a will its QoS is 0
3.1.2-12 the QoS of a will is 0, 1 or 2
3.1.2-13 without a will its retain flag is 0
3.1.2-14 a will without retain is not retained
3.1.2-15 a will with retain is retained
3.1.2-16 without its flag there is no user name
3.1.2-17 with its flag there is a user name
3.1.2-18 without its flag there is no password
3.1.2-19 with its flag there is a password
3.1.2-20 a client that says nothing sends PINGREQ in time | client
3.1.2-21 a client keeps to the server's keep alive | client
3.1.2-22 silence of one and a half keep alives ends the connection
3.1.2-23 the session is kept when its expiry is above 0
3.1.2-24 nothing larger than the client's largest packet is sent to it
3.1.2-25 a message too large for a client counts as delivered
3.1.2-26 no topic alias above the client's maximum
3.1.2-27 no topic alias to who allows none
3.1.2-28 no response information to who asks for none
3.1.2-29 no reason string or user property beside PUBLISH, CONNACK and DISCONNECT to who asks for none
3.1.2-30 nothing but AUTH and DISCONNECT before CONNACK when a method was named | client
3.1.3-1 the fields of the payload stand in their order
3.1.3-2 the client id names the session
3.1.3-3 there is a client id
3.1.3-4 the client id is UTF-8
3.1.3-5 ids of 1 to 23 letters and digits are taken
3.1.3-6 an empty id gets one that is unique
3.1.3-7 the id that was given is said and goes on as if sent
3.1.3-8 a refused id closes the connection
3.1.3-9 a return before its delay calls a will off
3.1.3-10 user properties of a will keep their order
3.1.3-11 the will topic is UTF-8
3.1.3-12 the user name is UTF-8
3.1.4-1 a CONNECT that does not conform closes the connection
3.1.4-2 a check that fails closes the connection
3.1.4-3 a newer connection of the id ends the older with 0x8E
3.1.4-4 clean start is done
3.1.4-5 success is said by CONNACK 0x00
3.1.4-6 what follows a refused CONNECT is not processed
3.2.0-1 CONNACK comes before any other packet
3.2.0-2 there is one CONNACK
3.2.2-1 reserved bits of CONNACK are 0
3.2.2-2 session present is 0 after a clean start
3.2.2-3 session present says whether there was a session
3.2.2-4 a client without session closes when told of one | client
3.2.2-5 a client forgets its session when the server has none | client
3.2.2-6 session present is 0 in a refusal
3.2.2-7 a refusal closes the connection
3.2.2-8 CONNACK has a reason of the table
3.2.2-9 a server without QoS 1 or 2 says so | every QoS is taken, so no maximum is said
3.2.2-10 a server without QoS 1 or 2 takes SUBSCRIBE of any | every QoS is taken
3.2.2-11 a client keeps to the maximum QoS | client
3.2.2-12 a will of a QoS that is not supported is refused | every QoS is taken
3.2.2-13 a retained will is refused where nothing is retained | retained messages are taken
3.2.2-14 a client does not retain where it is told so | client
3.2.2-15 a packet above the server's largest is refused
3.2.2-16 an empty client id is answered with a new one
3.2.2-17 an alias above the server's maximum is refused
3.2.2-18 no alias where the server allows none | aliases are always allowed, so the case does not arise
3.2.2-19 a reason string does not make CONNACK too large
3.2.2-20 user properties do not make CONNACK too large
3.2.2-21 a client uses the server's keep alive
3.2.2-22 without a server keep alive the client's is used
3.3.1-1 what is sent again has DUP
3.3.1-2 QoS 0 has no DUP
3.3.1-3 DUP is the sender's own
3.3.1-4 QoS 3 does not exist
3.3.1-5 a retained message replaces the one before
3.3.1-6 an empty retained message removes it
3.3.1-7 an empty message is not retained
3.3.1-8 a message without the flag leaves what is retained
3.3.1-9 retain handling 0: retained messages are sent
3.3.1-10 retain handling 1: only to a new subscription
3.3.1-11 retain handling 2: not at all
3.3.1-12 without retain as published the flag is 0
3.3.1-13 with retain as published the flag is the publisher's
3.3.2-1 a PUBLISH begins with its topic, in UTF-8
3.3.2-2 a topic name has no wildcards
3.3.2-3 what is sent matches the filter
3.3.2-4 the payload format is passed on
3.3.2-5 an expired message is not delivered
3.3.2-6 the expiry that is passed on is what is left
3.3.2-7 aliases end with their connection
3.3.2-8 alias 0 is refused
3.3.2-9 a client's alias is at most the server's maximum
3.3.2-10 a client takes every alias up to its maximum | client
3.3.2-11 the server's alias is at most the client's maximum
3.3.2-12 the server takes every alias up to its maximum
3.3.2-13 the response topic is UTF-8
3.3.2-14 the response topic has no wildcards
3.3.2-15 the response topic is passed on
3.3.2-16 correlation data is passed on
3.3.2-17 user properties are passed on
3.3.2-18 user properties keep their order
3.3.2-19 the content type is UTF-8
3.3.2-20 the content type is passed on
3.3.4-1 a PUBLISH is answered as its QoS asks
3.3.4-2 overlapping subscriptions: at their highest QoS
3.3.4-3 overlapping subscriptions: with their identifiers
3.3.4-4 a single copy has all identifiers | a copy is sent for each identified subscription, with its one identifier (3.3.4-5)
3.3.4-5 several copies have each its identifier
3.3.4-6 a client's PUBLISH has no subscription identifier
3.3.4-7 a client keeps to the server's receive maximum
3.3.4-8 a client goes on with other packets meanwhile | client
3.3.4-9 the server keeps to the client's receive maximum
3.3.4-10 the server goes on with other packets meanwhile
3.4.2-1 PUBACK has a reason of its table
3.4.2-2 a reason string does not make PUBACK too large
3.4.2-3 user properties do not make PUBACK too large
3.5.2-1 PUBREC has a reason of its table
3.5.2-2 a reason string does not make PUBREC too large
3.5.2-3 user properties do not make PUBREC too large
3.6.1-1 the flags of PUBREL are 0010
3.6.2-1 PUBREL has a reason of its table
3.6.2-2 a reason string does not make PUBREL too large
3.6.2-3 user properties do not make PUBREL too large
3.7.2-1 PUBCOMP has a reason of its table
3.7.2-2 a reason string does not make PUBCOMP too large
3.7.2-3 user properties do not make PUBCOMP too large
3.8.1-1 the flags of SUBSCRIBE are 0010
3.8.3-1 topic filters are UTF-8
3.8.3-2 a SUBSCRIBE has a filter
3.8.3-3 noLocal: not to the client that published
3.8.3-4 noLocal on a shared subscription is a protocol error
3.8.3-5 reserved bits of the options are 0
3.8.4-1 SUBSCRIBE is answered
3.8.4-2 SUBACK has its id
3.8.4-3 the same filter replaces the subscription
3.8.4-4 replacing sends retained messages again and loses nothing
3.8.4-5 several filters are as several packets with one answer
3.8.4-6 a reason for each filter
3.8.4-7 the reason says the QoS or the failure
3.8.4-8 delivered at the lower of the published and granted QoS
3.9.2-1 a reason string does not make SUBACK too large
3.9.2-2 user properties do not make SUBACK too large
3.9.3-1 reasons stand in the order of the filters
3.9.3-2 each reason is of its table
3.10.1-1 the flags of UNSUBSCRIBE are 0010
3.10.3-1 the filters of UNSUBSCRIBE are UTF-8
3.10.3-2 an UNSUBSCRIBE has a filter
3.10.4-1 filters are compared character by character
3.10.4-2 nothing new is added for delivery
3.10.4-3 a delivery that has begun is completed
3.10.4-4 UNSUBSCRIBE is answered
3.10.4-5 with its id, also where nothing was deleted
3.10.4-6 several filters are as several packets with one answer
3.11.2-1 a reason string does not make UNSUBACK too large
3.11.2-2 user properties do not make UNSUBACK too large
3.11.3-1 reasons stand in the order of the filters
3.11.3-2 each reason is of its table
3.12.4-1 PINGREQ is answered
3.14.0-1 no DISCONNECT before the CONNACK
3.14.1-1 the flags of DISCONNECT are 0
3.14.2-1 DISCONNECT has a reason of its table
3.14.2-2 the server says no session expiry in a DISCONNECT
3.14.2-3 a reason string does not make DISCONNECT too large
3.14.2-4 user properties do not make DISCONNECT too large
3.14.4-1 nothing follows a DISCONNECT
3.14.4-2 a DISCONNECT closes the connection
3.14.4-3 DISCONNECT 0x00 discards the will
3.15.1-1 the flags of AUTH are 0
3.15.2-1 AUTH has a reason of its table | the server sends no AUTH
3.15.2-2 a reason string does not make AUTH too large | the server sends no AUTH
3.15.2-3 user properties do not make AUTH too large | the server sends no AUTH
4.1.0-1 the session is kept while the connection is open
4.1.0-2 the session is forgotten when its expiry has passed
4.2-1 an ordered, lossless transport
4.3.1-1 QoS 0 is sent with DUP 0
4.3.2-1 QoS 1: an unused id for each message
4.3.2-2 QoS 1: first sent with DUP 0
4.3.2-3 QoS 1: unacknowledged until its PUBACK
4.3.2-4 QoS 1: answered with its id, the message taken
4.3.2-5 QoS 1: after the PUBACK the same id is another message
4.3.3-1 QoS 2: an unused id for each message
4.3.3-2 QoS 2: first sent with DUP 0
4.3.3-3 QoS 2: unacknowledged until its PUBREC
4.3.3-4 QoS 2: PUBREC is answered with PUBREL of the same id
4.3.3-5 QoS 2: PUBREL stays until its PUBCOMP
4.3.3-6 QoS 2: no PUBLISH after its PUBREL
4.3.3-7 QoS 2: what was sent does not expire
4.3.3-8 QoS 2: answered with PUBREC of its id
4.3.3-9 QoS 2: after a refusing PUBREC the id is a new message
4.3.3-10 QoS 2: a repeat is answered and not delivered twice
4.3.3-11 QoS 2: PUBREL is answered with PUBCOMP
4.3.3-12 QoS 2: after PUBCOMP the id is a new message
4.3.3-13 QoS 2: acknowledgement goes on for what has expired
4.4.0-1 a session that goes on gets again what was not acknowledged, with its ids, and at no other time
4.4.0-2 what was refused by PUBACK or PUBREC is not sent again
4.5.0-1 a message that was taken belongs to every matching session
4.5.0-2 a client acknowledges what it does not use | client
4.6.0-1 a client sends again in order | client
4.6.0-2 PUBACKs come in the order of their messages
4.6.0-3 PUBRECs come in the order of their messages
4.6.0-4 PUBRELs come in the order of their PUBRECs
4.6.0-5 messages of one client, topic and QoS stay in order
4.6.0-6 every topic is ordered for subscriptions that are not shared
4.7.0-1 wildcards stand in filters alone
4.7.1-1 # stands alone or after /, at the end
4.7.1-2 + takes a whole level
4.7.2-1 filters that begin with a wildcard do not match $ topics
4.7.3-1 names and filters have a character
4.7.3-2 names and filters hold no U+0000
4.7.3-3 names and filters have at most 65,535 bytes | the length field has no more
4.7.3-4 names are compared as they are
4.8.2-1 a shared filter begins with $share/ and a name
4.8.2-2 a share name has no wildcard and is followed by a filter
4.8.2-3 a shared subscription has its granted QoS
4.8.2-4 QoS 2 that was begun with a member is completed when it returns
4.8.2-5 and goes to nobody else when that session ends
4.8.2-6 what a member refused goes to nobody else
4.9.0-1 the quota is above 0 and at most the receive maximum
4.9.0-2 at a quota of 0 nothing of QoS 1 or 2 is sent
4.9.0-3 other packets go on at a quota of 0
4.12.0-1 an unknown authentication method closes the connection
4.12.0-2 the server's AUTH has 0x18 | no method is offered, so the server sends no AUTH
4.12.0-3 the client's AUTH has 0x18 | client
4.12.0-4 a refused authentication closes the connection
4.12.0-5 AUTH and CONNACK name the method of the CONNECT | a CONNECT with a method is never accepted
4.12.0-6 without a method there is no AUTH and no method in CONNACK
4.12.0-7 without a method a client sends no AUTH
4.12.1-1 a client authenticates anew with the same method | client
4.12.1-2 failing anew closes the connection | no method is offered
4.13.1-1 a malformed packet or protocol error closes the connection
4.13.2-1 a reason of 0x80 and above closes the connection
6.0.0-1 WebSocket: binary frames alone
6.0.0-2 WebSocket: packets are not aligned to frames
6.0.0-3 WebSocket: mqtt is among the subprotocols asked for
6.0.0-4 WebSocket: mqtt is the subprotocol chosen
`;
