/* A WebSocket client that is cheap enough to measure a server with: plain, gcrypt.v1 and gcrypt.v2.
 *
 *     cc -O2 -o load load.c -lcrypto
 *     load echo|connect|broadcast plain|v1|v2 PORT PATH CONNECTIONS AMOUNT < commands
 *
 *   echo       CONNECTIONS sockets; each sends the message and waits for its echo, for AMOUNT seconds.
 *   connect    the same, but each opens a new socket for each echo and closes it behind; one more
 *              socket is open all the time, as a server has others.
 *   broadcast  sends TRIGGER to the path /trigger/ AMOUNT times, and each time waits until all
 *              CONNECTIONS sockets have got a message.
 *
 * Environment: MESSAGE (a file with the JSON text), KID and PSK (hex), PASSPHRASE, COOKIE, TRIGGER,
 * LAG_MS (broadcast: milliseconds between two).
 *
 * It prints {"ready": seconds} when all sockets are open, waits for a line on stdin, works, prints
 * the result, and keeps the sockets open until stdin ends. Whoever runs it reads the server's CPU
 * time and memory at those moments. Frames are those of docs/protocol.md. Each answer is opened
 * (v2) or compared in length (v1, plain), and the first of each socket is compared with MESSAGE.
 * A v1 frame is sealed once and sent again and again, which v1 cannot tell. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { TAG = 16, KEY = 32, KID_SIZE = 8, FRAGMENT = 114688, REKEY_INTERVAL = 65536 };
enum { TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };
enum { HELLO = 0x01, REPLY = 0x02, V2_TEXT = 0x10, V2_CONTROL = 0x12, MORE = 0x80, KIND = 0x3f };
enum { TIMEOUT = 60 };

typedef enum { PLAIN, V1, V2 } Profile;
typedef enum { CONNECTING, UPGRADING, GREETING, ACCEPTING, OPEN, CLOSING } State;

typedef struct {
    unsigned char *data;
    size_t size, room;
} Buffer;

typedef struct {
    unsigned char key[KEY];
    EVP_CIPHER_CTX *cipher;
    uint64_t counter;
} Direction;

typedef struct {
    int fd;
    State state;
    Profile profile;
    const char *path;
    Buffer in, out, message;
    Direction sending, receiving;
    double sent_at;
    int compared, waits_for_out, has_message;
} Connection;

static struct {
    int port, epoll;
    Profile profile;
    const char *path, *cookie, *passphrase;
    unsigned char kid[KID_SIZE], psk[KEY];
    unsigned char *message;
    size_t message_size;
    Buffer classic; /* the message as a v1 frame */
    double started;
} run;

static float *latencies;
static size_t answers, latency_room;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static double own_cpu(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
           (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

static unsigned char *reserve(Buffer *buffer, size_t more) {
    if (buffer->size + more > buffer->room) {
        buffer->room = 2 * (buffer->size + more);
        buffer->data = realloc(buffer->data, buffer->room);
        if (!buffer->data) fail("out of memory");
    }
    return buffer->data + buffer->size;
}

static void append(Buffer *buffer, const void *data, size_t size) {
    memcpy(reserve(buffer, size), data, size);
    buffer->size += size;
}

static void drop(Buffer *buffer, size_t size) {
    memmove(buffer->data, buffer->data + size, buffer->size - size);
    buffer->size -= size;
}

/* The socket */

static void watch(Connection *c, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(run.epoll, operation, c->fd, &event)) fail("epoll: %s", strerror(errno));
}

static void flush(Connection *c) {
    size_t done = 0;
    while (done < c->out.size) {
        ssize_t written = write(c->fd, c->out.data + done, c->out.size - done);
        if (written < 0) {
            if (errno != EAGAIN) fail("write: %s", strerror(errno));
            break;
        }
        done += written;
    }
    drop(&c->out, done);
    int waits = c->out.size > 0;
    if (waits != c->waits_for_out) watch(c, EPOLL_CTL_MOD, waits ? EPOLLIN | EPOLLOUT : EPOLLIN);
    c->waits_for_out = waits;
}

static void send_frame(Connection *c, int opcode, const unsigned char *data, size_t size) {
    static const unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    unsigned char *out = reserve(&c->out, size + 14), *start = out;
    *out++ = 0x80 | opcode;
    if (size < 126) {
        *out++ = 0x80 | size;
    } else if (size < 65536) {
        *out++ = 0x80 | 126;
        *out++ = size >> 8;
        *out++ = size;
    } else {
        *out++ = 0x80 | 127;
        for (int shift = 56; shift >= 0; shift -= 8) *out++ = (uint64_t)size >> shift;
    }
    memcpy(out, mask, 4);
    out += 4;
    for (size_t i = 0; i < size; i++) out[i] = data[i] ^ mask[i & 3];
    c->out.size += out - start + size;
    flush(c);
}

static void start(Connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(run.port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) fail("socket: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(c->fd, (void *)&address, sizeof address) && errno != EINPROGRESS)
        fail("connect: %s", strerror(errno));
    c->state = CONNECTING;
    c->in.size = c->out.size = c->message.size = 0;
    c->compared = 0;
    c->waits_for_out = 1;
    watch(c, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
}

static void upgrade(Connection *c) {
    static const char *tokens[] = {"", "Sec-WebSocket-Protocol: gcrypt.v1\r\n",
                                   "Sec-WebSocket-Protocol: gcrypt.v2\r\n"};
    char *request;
    int size = asprintf(&request,
                        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nOrigin: http://127.0.0.1:%d\r\n"
                        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s%s%s%s\r\n",
                        c->path, run.port, run.port, tokens[c->profile],
                        *run.cookie ? "Cookie: " : "", run.cookie, *run.cookie ? "\r\n" : "");
    if (size < 0) fail("out of memory");
    append(&c->out, request, size);
    free(request);
    c->state = UPGRADING;
    flush(c);
}

/* gcrypt.v2: Noise_NNpsk0_25519_AESGCM_SHA256, this side responding */

static void hkdf(unsigned char chaining[KEY], const unsigned char *input, size_t size,
                 unsigned char outputs[3][KEY], int count) {
    unsigned char secret[KEY], block[KEY + 1];
    HMAC(EVP_sha256(), chaining, KEY, input, size, secret, NULL);
    for (int i = 0; i < count; i++) {
        size_t length = i ? KEY : 0;
        if (i) memcpy(block, outputs[i - 1], KEY);
        block[length] = i + 1;
        HMAC(EVP_sha256(), secret, KEY, block, length + 1, outputs[i], NULL);
    }
    memcpy(chaining, outputs[0], KEY);
}

static void mix_hash(unsigned char hash[KEY], const unsigned char *data, size_t size) {
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    EVP_DigestInit_ex(context, EVP_sha256(), NULL);
    EVP_DigestUpdate(context, hash, KEY);
    EVP_DigestUpdate(context, data, size);
    EVP_DigestFinal_ex(context, hash, NULL);
    EVP_MD_CTX_free(context);
}

static void set_key(Direction *direction, const unsigned char key[KEY], int encrypts) {
    if (!direction->cipher) direction->cipher = EVP_CIPHER_CTX_new();
    memcpy(direction->key, key, KEY);
    EVP_CipherInit_ex(direction->cipher, EVP_aes_256_gcm(), NULL, key, NULL, encrypts);
}

static void nonce_of(uint64_t counter, unsigned char nonce[12]) {
    memset(nonce, 0, 4);
    for (int i = 0; i < 8; i++) nonce[4 + i] = counter >> (56 - 8 * i);
}

static void encrypt(EVP_CIPHER_CTX *cipher, uint64_t counter, const unsigned char *ad, size_t ad_size,
                    const unsigned char *data, size_t size, unsigned char *out) {
    unsigned char nonce[12];
    int length;
    nonce_of(counter, nonce);
    EVP_EncryptInit_ex(cipher, NULL, NULL, NULL, nonce);
    EVP_EncryptUpdate(cipher, NULL, &length, ad, ad_size);
    EVP_EncryptUpdate(cipher, out, &length, data, size);
    EVP_EncryptFinal_ex(cipher, out + size, &length);
    EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, TAG, out + size);
}

/* Both directions get REKEY(k) after each REKEY_INTERVAL frames. */
static void count_frame(Direction *direction, int encrypts) {
    if (++direction->counter % REKEY_INTERVAL) return;
    unsigned char zeros[KEY] = {0}, sealed[KEY + TAG];
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    EVP_EncryptInit_ex(cipher, EVP_aes_256_gcm(), NULL, direction->key, NULL);
    encrypt(cipher, UINT64_MAX, zeros, 0, zeros, KEY, sealed);
    EVP_CIPHER_CTX_free(cipher);
    set_key(direction, sealed, encrypts);
}

static void seal_v2(Connection *c) {
    static unsigned char frame[1 + FRAGMENT + TAG];
    size_t start = 0;
    do {
        size_t size = run.message_size - start;
        frame[0] = V2_TEXT;
        if (size > FRAGMENT) {
            size = FRAGMENT;
            frame[0] |= MORE;
        }
        encrypt(c->sending.cipher, c->sending.counter, frame, 1, run.message + start, size, frame + 1);
        count_frame(&c->sending, 1);
        send_frame(c, BINARY, frame, 1 + size + TAG);
        start += size;
    } while (start < run.message_size);
}

/* Opens a frame behind c->message; returns its first byte. */
static int open_v2(Connection *c, const unsigned char *frame, size_t size) {
    unsigned char nonce[12];
    int length;
    if (size < 1 + TAG) fail("a frame of %zu bytes", size);
    size_t plain = size - 1 - TAG;
    unsigned char *out = reserve(&c->message, plain + TAG);
    EVP_CIPHER_CTX *cipher = c->receiving.cipher;
    nonce_of(c->receiving.counter, nonce);
    EVP_DecryptInit_ex(cipher, NULL, NULL, NULL, nonce);
    EVP_DecryptUpdate(cipher, NULL, &length, frame, 1);
    EVP_DecryptUpdate(cipher, out, &length, frame + 1, plain);
    EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_SET_TAG, TAG, (void *)(frame + size - TAG));
    if (EVP_DecryptFinal_ex(cipher, out + plain, &length) != 1) fail("a frame does not open");
    count_frame(&c->receiving, 0);
    c->message.size += plain;
    return frame[0];
}

static void reply(Connection *c, const unsigned char *hello, size_t size) {
    unsigned char hash[KEY], chaining[KEY], out[3][KEY], prologue[9 + KID_SIZE], shared[KEY], own[KEY];
    const unsigned char *remote = hello + 1 + KID_SIZE;
    if (size < 1 + KID_SIZE + KEY + TAG || hello[0] != HELLO || memcmp(hello + 1, run.kid, KID_SIZE))
        fail("this is no HELLO under our key");
    memcpy(hash, "Noise_NNpsk0_25519_AESGCM_SHA256", KEY);
    memcpy(chaining, hash, KEY);
    memcpy(prologue, "gcrypt.v2", 9);
    memcpy(prologue + 9, run.kid, KID_SIZE);
    mix_hash(hash, prologue, sizeof prologue);
    hkdf(chaining, run.psk, KEY, out, 3); /* psk */
    mix_hash(hash, out[1], KEY);
    mix_hash(hash, remote, KEY); /* e */
    hkdf(chaining, remote, KEY, out, 2);
    mix_hash(hash, remote + KEY, size - 1 - KID_SIZE - KEY); /* HELLO's payload is not looked at */

    size_t length = KEY;
    EVP_PKEY *pair = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
    EVP_PKEY *peer = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, remote, KEY);
    EVP_PKEY_get_raw_public_key(pair, own, &length);
    mix_hash(hash, own, KEY); /* e */
    hkdf(chaining, own, KEY, out, 2);
    EVP_PKEY_CTX *exchange = EVP_PKEY_CTX_new(pair, NULL);
    if (EVP_PKEY_derive_init(exchange) != 1 || EVP_PKEY_derive_set_peer(exchange, peer) != 1 ||
        EVP_PKEY_derive(exchange, shared, &length) != 1)
        fail("the key exchange failed");
    EVP_PKEY_CTX_free(exchange);
    EVP_PKEY_free(pair);
    EVP_PKEY_free(peer);
    hkdf(chaining, shared, KEY, out, 2); /* ee */

    char payload[512];
    int written = snprintf(payload, sizeof payload,
                           "{\"subprotocols\":[],\"max_message\":16777216,\"offered\":[\"gcrypt.v2\"],"
                           "\"host\":\"127.0.0.1\",\"target\":\"%s\"}", c->path);
    unsigned char frame[1 + KEY + sizeof payload + TAG];
    frame[0] = REPLY;
    memcpy(frame + 1, own, KEY);
    set_key(&c->sending, out[1], 1);
    encrypt(c->sending.cipher, 0, hash, KEY, (unsigned char *)payload, written, frame + 1 + KEY);
    hkdf(chaining, (unsigned char *)"", 0, out, 2); /* split: the initiator's direction first */
    set_key(&c->receiving, out[0], 0);
    set_key(&c->sending, out[1], 1);
    c->sending.counter = c->receiving.counter = 0;
    send_frame(c, BINARY, frame, 1 + KEY + written + TAG);
}

/* gcrypt.v1 */

static void derive_v1(const unsigned char salt[8], unsigned char key[KEY], unsigned char iv[16]) {
    EVP_BytesToKey(EVP_aes_256_cbc(), EVP_md5(), salt, (const unsigned char *)run.passphrase,
                   strlen(run.passphrase), 1, key, iv);
}

static void hex(Buffer *out, const unsigned char *data, size_t size) {
    for (size_t i = 0; i < size; i++) out->size += sprintf((char *)reserve(out, 3), "%02x", data[i]);
}

static void seal_v1(void) {
    unsigned char salt[8], key[KEY], iv[16];
    int length, last;
    RAND_bytes(salt, sizeof salt);
    derive_v1(salt, key, iv);
    unsigned char *sealed = malloc(run.message_size + 32);
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key, iv);
    EVP_EncryptUpdate(cipher, sealed, &length, run.message, run.message_size);
    EVP_EncryptFinal_ex(cipher, sealed + length, &last);
    EVP_CIPHER_CTX_free(cipher);
    append(&run.classic, "{\"ct\":\"", 7);
    run.classic.size += EVP_EncodeBlock(reserve(&run.classic, 2 * (length + last) + 4), sealed, length + last);
    append(&run.classic, "\",\"iv\":\"", 8);
    hex(&run.classic, iv, sizeof iv);
    append(&run.classic, "\",\"s\":\"", 7);
    hex(&run.classic, salt, sizeof salt);
    append(&run.classic, "\"}", 2);
    free(sealed);
}

/* Finds a member's string in a frame; returns where it begins. */
static const unsigned char *member(const unsigned char *frame, size_t size, const char *name, size_t *length) {
    char pattern[16];
    sprintf(pattern, "\"%s\":\"", name);
    const unsigned char *found = memmem(frame, size, pattern, strlen(pattern));
    if (!found) fail("a frame without %s", name);
    found += strlen(pattern);
    *length = (unsigned char *)memchr(found, '"', frame + size - found) - found;
    return found;
}

static void open_v1(Connection *c, const unsigned char *frame, size_t size) {
    unsigned char salt[8], key[KEY], iv[16];
    size_t length;
    int plain, last;
    const unsigned char *text = member(frame, size, "s", &length);
    for (int i = 0; i < 8; i++) sscanf((const char *)text + 2 * i, "%2hhx", salt + i);
    derive_v1(salt, key, iv);
    text = member(frame, size, "ct", &length);
    unsigned char *sealed = malloc(length + 4);
    int padding = (text[length - 1] == '=') + (text[length - 2] == '=');
    int sealed_size = EVP_DecodeBlock(sealed, text, length) - padding;
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key, iv);
    EVP_DecryptUpdate(cipher, reserve(&c->message, sealed_size), &plain, sealed, sealed_size);
    if (EVP_DecryptFinal_ex(cipher, c->message.data + plain, &last) != 1) fail("a frame does not open");
    EVP_CIPHER_CTX_free(cipher);
    free(sealed);
    c->message.size = plain + last;
}

/* Messages */

static void send_message(Connection *c) {
    c->sent_at = now();
    if (c->profile == V2) seal_v2(c);
    else if (c->profile == V1) send_frame(c, TEXT, run.classic.data, run.classic.size);
    else send_frame(c, TEXT, run.message, run.message_size);
}

/* Python's json puts blanks behind commas and colons, and ours does not; MESSAGE has none. */
static void compare(const Buffer *received) {
    size_t i = 0;
    for (size_t j = 0; j < received->size; j++) {
        if (received->data[j] == ' ') continue;
        if (i >= run.message_size || received->data[j] != run.message[i++]) fail("another message came back");
    }
    if (i != run.message_size) fail("a shorter message came back");
}

/* Takes a data frame of an open socket; returns whether it completes a message. */
static int take_message(Connection *c, const unsigned char *data, size_t size) {
    if (c->profile == V2) {
        int first = open_v2(c, data, size);
        if ((first & KIND) != V2_TEXT) fail("a frame of type %d", first);
        if (first & MORE) return 0;
    } else if (c->profile == V1 && !c->compared) {
        open_v1(c, data, size);
    } else if (c->profile == PLAIN && !c->compared) {
        append(&c->message, data, size);
    } else if (size < run.message_size) {
        fail("a message of %zu bytes", size);
    }
    if (!c->compared) compare(&c->message);
    c->compared = 1;
    c->message.size = 0;
    return 1;
}

/* Reads one socket. on_open and on_message are what the mode does then. */

typedef void (*Handler)(Connection *);
static Handler on_open, on_message, on_closed;

static void take_frame(Connection *c, int opcode, const unsigned char *data, size_t size) {
    if (opcode == PING) {
        send_frame(c, PONG, data, size);
    } else if (opcode == CLOSE) {
        if (c->state != CLOSING) fail("closed with %d", size > 1 ? data[0] << 8 | data[1] : 1005);
    } else if (c->state == GREETING) {
        reply(c, data, size);
        c->state = ACCEPTING;
    } else if (c->state == ACCEPTING) {
        if (open_v2(c, data, size) != V2_CONTROL) fail("no accept");
        c->message.size = 0;
        c->state = OPEN;
        on_open(c);
    } else if (c->state == OPEN && take_message(c, data, size)) {
        on_message(c);
    }
}

static void take_upgrade(Connection *c) {
    unsigned char *end = memmem(c->in.data, c->in.size, "\r\n\r\n", 4);
    if (!end) return;
    if (memcmp(c->in.data, "HTTP/1.1 101", 12)) fail("refused: %.*s", (int)c->in.size, c->in.data);
    drop(&c->in, end + 4 - c->in.data);
    c->state = c->profile == V2 ? GREETING : OPEN;
    if (c->state == OPEN) on_open(c);
}

static void take_input(Connection *c) {
    if (c->state == UPGRADING) take_upgrade(c);
    size_t taken = 0;
    while (c->state != UPGRADING && c->in.size - taken >= 2) {
        const unsigned char *data = c->in.data + taken;
        size_t size = data[1] & 0x7f, header = 2, left = c->in.size - taken;
        if (size == 126) {
            if (left < 4) break;
            size = data[2] << 8 | data[3];
            header = 4;
        } else if (size == 127) {
            if (left < 10) break;
            size = 0;
            for (int i = 2; i < 10; i++) size = size << 8 | data[i];
            header = 10;
        }
        if (left < header + size) break;
        if (!(data[0] & 0x80)) fail("a fragmented WebSocket message");
        taken += header + size;
        take_frame(c, data[0] & 0x0f, data + header, size);
    }
    drop(&c->in, taken);
}

static void end(Connection *c) {
    close(c->fd);
    on_closed(c);
}

static void take_event(Connection *c, uint32_t events) {
    if (c->state == CONNECTING) {
        upgrade(c);
        return;
    }
    if (events & EPOLLOUT) flush(c);
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR))) return;
    unsigned char *room = reserve(&c->in, 16384);
    ssize_t size = read(c->fd, room, c->in.room - c->in.size);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) {
        if (c->state != CLOSING) fail("the server ended the socket: %.*s", (int)c->in.size, c->in.data);
        end(c);
        return;
    }
    c->in.size += size;
    take_input(c);
}

static void poll_until(double deadline) {
    struct epoll_event events[256];
    int count = epoll_wait(run.epoll, events, 256, 20);
    for (int i = 0; i < count; i++) take_event(events[i].data.ptr, events[i].events);
    if (now() > deadline) fail("timed out");
}

/* The modes */

static int opened, missing, is_over;

static void count_open(Connection *c) { (void)c; opened++; }
static void ignore(Connection *c) { (void)c; }

static void note_latency(double seconds) {
    if (answers == latency_room) {
        latency_room = 2 * latency_room + 1024;
        latencies = realloc(latencies, latency_room * sizeof *latencies);
    }
    latencies[answers++] = seconds;
}

static void echo_again(Connection *c) {
    if (is_over) return;
    note_latency(now() - c->sent_at);
    send_message(c);
}

static void close_socket(Connection *c) {
    static const unsigned char normal[2] = {1000 >> 8, 1000 & 0xff};
    if (!is_over) note_latency(now() - c->sent_at);
    c->state = CLOSING;
    send_frame(c, CLOSE, normal, 2);
}

static void start_again(Connection *c) {
    if (!is_over) start(c);
}

static void count_down(Connection *c) { (void)c; missing--; }

static int compare_floats(const void *a, const void *b) {
    return (*(float *)a > *(float *)b) - (*(float *)a < *(float *)b);
}

static void unhex(const char *name, unsigned char *out, size_t size) {
    const char *text = getenv(name);
    for (size_t i = 0; text && i < size; i++) sscanf(text + 2 * i, "%2hhx", out + i);
}

static const char *environment(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

static int wait_for_line(void) {
    int character;
    do character = getchar();
    while (character != EOF && character != '\n');
    return character == '\n';
}

static void read_message(void) {
    FILE *file = fopen(environment("MESSAGE"), "rb");
    if (!file) fail("MESSAGE: %s", strerror(errno));
    fseek(file, 0, SEEK_END);
    run.message_size = ftell(file);
    rewind(file);
    run.message = malloc(run.message_size + 1);
    if (fread(run.message, 1, run.message_size, file) != run.message_size) fail("MESSAGE is unreadable");
    fclose(file);
}

int main(int count, char **arguments) {
    if (count != 7) fail("usage: load MODE PROFILE PORT PATH CONNECTIONS AMOUNT");
    const char *mode = arguments[1];
    int echoes = !strcmp(mode, "echo"), connects = !strcmp(mode, "connect");
    run.profile = !strcmp(arguments[2], "v2") ? V2 : !strcmp(arguments[2], "v1") ? V1 : PLAIN;
    run.port = atoi(arguments[3]);
    run.path = arguments[4];
    int connections = atoi(arguments[5]);
    double amount = atof(arguments[6]);
    run.cookie = environment("COOKIE");
    run.passphrase = environment("PASSPHRASE");
    unhex("KID", run.kid, KID_SIZE);
    unhex("PSK", run.psk, KEY);
    read_message();
    seal_v1();
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    run.epoll = epoll_create1(0);

    Connection *sockets = calloc(connections + 1, sizeof *sockets);
    for (int i = 0; i < connections; i++)
        sockets[i] = (Connection){.profile = run.profile, .path = run.path};
    Connection *other = &sockets[connections]; /* the trigger, or the one that stays open */
    *other = (Connection){.profile = run.profile, .path = run.path};
    if (!connects) *other = (Connection){.profile = PLAIN, .path = "/trigger/", .compared = 1};

    on_open = count_open;
    on_message = on_closed = ignore;
    run.started = now();
    int first = connects ? connections : 0, last = connections + !echoes;
    for (int i = first; i < last; i++) { /* a few at a time: a server's backlog is short */
        start(&sockets[i]);
        while (opened < i - first - 50) poll_until(run.started + 10 * TIMEOUT);
    }
    while (opened < last - first) poll_until(run.started + 10 * TIMEOUT);
    printf("{\"ready\": %.6f}\n", now() - run.started);
    fflush(stdout);
    if (!wait_for_line()) return 0;

    double cpu = own_cpu(), started = run.started = now();
    if (echoes) {
        on_message = echo_again;
        for (int i = 0; i < connections; i++) send_message(&sockets[i]);
        while (now() < started + amount) poll_until(started + amount + TIMEOUT);
    } else if (connects) {
        on_open = send_message;
        on_message = close_socket;
        on_closed = start_again;
        for (int i = 0; i < connections; i++) start(&sockets[i]);
        while (now() < started + amount) poll_until(started + amount + TIMEOUT);
    } else {
        const char *text = environment("TRIGGER");
        double lag = atof(environment("LAG_MS")) / 1e3, paused = 0;
        on_message = count_down;
        for (int round = 0; round < amount; round++) {
            double begun = now();
            missing = connections;
            send_frame(other, TEXT, (const unsigned char *)text, strlen(text));
            while (missing > 0) poll_until(begun + TIMEOUT);
            note_latency(now() - begun);
            for (double until = now() + lag; now() < until;) poll_until(until + TIMEOUT);
            paused += lag;
        }
        started += paused;
    }
    is_over = 1;
    double seconds = now() - started;
    cpu = own_cpu() - cpu;
    qsort(latencies, answers, sizeof *latencies, compare_floats);
    printf("{\"count\": %zu, \"seconds\": %.6f, \"own_cpu\": %.6f, \"p50\": %.6f, \"p99\": %.6f}\n",
           answers, seconds, cpu, answers ? latencies[answers / 2] : 0,
           answers ? latencies[(size_t)(answers * 0.99)] : 0);
    fflush(stdout);
    wait_for_line();
    return 0;
}
