/* receive.h - bytes of a socket become messages for hot_path.h: one feed on its thread, or many on a poller tile.
 *
 *   wait -> recv -> origin -> frames -> mantra_feed_message()      pings are answered, heartbeats sent, silence noticed
 *
 * It runs without the GIL until something needs Python: that comes back as an event. */
#ifndef MANTRA_RECEIVE_H
#define MANTRA_RECEIVE_H

#include "mantra/hot_path.h"
#include "mantra/poller.h"

static inline bool
mantra_feed_send(mantra_feed *feed, uint8_t opcode, const uint8_t *payload, size_t size)
{
    uint8_t out[MANTRA_FRAME_HEADER + 128];
    if (size > 128)
        return false;
    const size_t length = mantra_frame_write(out, opcode, payload, size, mantra_random_mask());
    if (mantra_transport_send(feed->transport, out, length) != (ptrdiff_t)length)
        return false;
    if (feed->tape)
        mantra_feed_note(feed, MANTRA_TAPE_SENT, 0, opcode, mantra_clock_cycles(feed->clock), payload, size);
    return true;
}

/* Books that have to be looked at although nothing arrives: crossed for too long, or silent on a channel that has
 * heartbeats. */
MANTRA_COLD void
mantra_feed_look(mantra_feed *feed, uint64_t now)
{
    feed->look_at = UINT64_MAX;
    for (uint32_t i = 0; i < feed->book_count; i++) {
        mantra_feed_book *book = &feed->books[i];
        if (book->state != MANTRA_BOOK_LIVE)
            continue;
        if (book->crossed_at) {
            const uint64_t lasted = now > book->crossed_at ? now - book->crossed_at : 0;
            const uint64_t most = feed->cross_believed + feed->cross_limit;
            if (lasted >= most)
                mantra_feed_suspect(feed, book, MANTRA_REASON_CROSSED, now);
            else
                mantra_feed_rejudge(feed, book, now);
            if (book->crossed_at)
                feed->look_at = mantra_min_u64(
                    feed->look_at, book->crossed_at + (lasted < feed->cross_believed ? feed->cross_believed : most));
        }
        if (feed->channel_silent_after && book->state == MANTRA_BOOK_LIVE) {
            if (now > book->heard && now - book->heard >= feed->channel_silent_after)
                mantra_feed_suspect(feed, book, MANTRA_REASON_SILENT, now);
            else
                feed->look_at = mantra_min_u64(feed->look_at, book->heard + feed->channel_silent_after);
        }
    }
    if (feed->channel_silent_after) /* those that are not live now will be */
        feed->look_at = mantra_min_u64(feed->look_at, now + feed->channel_silent_after);
}

/* Nothing was heard for so long that no book is to be used. */
MANTRA_COLD void
mantra_feed_go_stale(mantra_feed *feed, uint64_t now)
{
    feed->stale = true;
    for (uint32_t i = 0; i < feed->book_count; i++)
        if (feed->books[i].trust >= MANTRA_UNVERIFIED)
            mantra_feed_trust(feed, &feed->books[i], MANTRA_STALE, MANTRA_REASON_SILENT, now);
}

/* Heartbeats and silence. Returns an event or MANTRA_EVENT_NONE; *wake_at: when to look again at the latest. */
static inline int
mantra_feed_timers(mantra_feed *feed, uint64_t now, uint64_t *wake_at)
{
    const uint64_t quiet = now > feed->heard ? now - feed->heard : 0;
    if (feed->silent_after && quiet >= feed->silent_after)
        return MANTRA_EVENT_SILENT;
    if (feed->stale_after && quiet >= feed->stale_after && !feed->stale) {
        mantra_feed_note(feed, MANTRA_TAPE_STALE, 0, 0, now, NULL, 0);
        mantra_feed_go_stale(feed, now);
    }
    if (MANTRA_UNLIKELY(now >= feed->look_at)) {
        mantra_feed_note(feed, MANTRA_TAPE_TIMED, 0, 0, now, NULL, 0);
        mantra_feed_look(feed, now);
        if (feed->wanting)
            return MANTRA_EVENT_WANTS;
    }
    if (feed->heartbeat_every && now >= feed->next_heartbeat) {
        feed->next_heartbeat = now + feed->heartbeat_every;
        if (!mantra_feed_send(feed, feed->heartbeat_opcode, feed->heartbeat, feed->heartbeat_size))
            return MANTRA_EVENT_FAILED;
    }
    if (feed->heartbeat_every)
        *wake_at = mantra_min_u64(*wake_at, feed->next_heartbeat);
    if (feed->silent_after)
        *wake_at = mantra_min_u64(*wake_at, feed->heard + feed->silent_after);
    if (feed->stale_after && !feed->stale)
        *wake_at = mantra_min_u64(*wake_at, feed->heard + feed->stale_after);
    *wake_at = mantra_min_u64(*wake_at, feed->look_at);
    return MANTRA_EVENT_NONE;
}

/* Bytes were heard again: what was only stale is judged anew. */
static inline void
mantra_feed_fresh(mantra_feed *feed, uint64_t now)
{
    feed->stale = false;
    for (uint32_t i = 0; i < feed->book_count; i++)
        if (feed->books[i].trust == MANTRA_STALE)
            mantra_feed_rejudge(feed, &feed->books[i], now);
}

/* All complete frames in the buffer. */
static inline int
mantra_feed_frames(mantra_feed *feed)
{
    int event = MANTRA_EVENT_NONE;
    while (event == MANTRA_EVENT_NONE) {
        mantra_frame frame;
        if (MANTRA_UNLIKELY(feed->wanting)) { /* also what a message wanted that was given to Python for another reason */
            event = MANTRA_EVENT_WANTS;
            break;
        }
        const int got = mantra_frames_next(&feed->frames, &frame);
        if (got == 0)
            break;
        if (MANTRA_UNLIKELY(got < 0)) {
            MANTRA_COUNT(feed, protocol_errors, 1);
            feed->protocol_error = got;
            event = MANTRA_EVENT_PROTOCOL;
            break;
        }
        MANTRA_COUNT(feed, frames, 1);
        if (MANTRA_LIKELY(frame.opcode == MANTRA_FRAME_TEXT || frame.opcode == MANTRA_FRAME_BINARY)) {
            const uint64_t origin = feed->split_origin ? feed->split_origin : feed->origin;
            feed->split_origin = 0;
            const int kind = mantra_feed_message(feed, (const char *)frame.payload, frame.size, origin);
            mantra_feed_note(feed, MANTRA_TAPE_MESSAGE, 0, frame.opcode, origin, frame.payload, frame.size);
            if (MANTRA_UNLIKELY(kind == MANTRA_CONTROL)) {
                feed->text = frame.payload;
                feed->text_size = frame.size;
                event = MANTRA_EVENT_TEXT;
            }
            continue;
        }
        mantra_feed_note(feed, MANTRA_TAPE_MESSAGE, 0, frame.opcode, feed->origin, frame.payload, frame.size);
        if (frame.opcode == MANTRA_FRAME_PING) {
            if (!mantra_feed_send(feed, MANTRA_FRAME_PONG, frame.payload, frame.size))
                event = MANTRA_EVENT_FAILED;
        } else if (frame.opcode == MANTRA_FRAME_CLOSE) {
            feed->close_code = frame.size >= 2 ? (uint16_t)(frame.payload[0] << 8 | frame.payload[1]) : 0;
            event = MANTRA_EVENT_CLOSED;
        }
    }
    mantra_doorbell_ring(feed->doorbell); /* once for all of them */
    feed->begun = 0;
    return event;
}

/* Read what has arrived, once, and work through it; transport->more says whether to come back at once. */
static inline int
mantra_feed_service(mantra_feed *feed)
{
    /* An event may have left complete frames behind. */
    int event = mantra_feed_frames(feed);
    if (event)
        return event;
    uint8_t *room;
    const size_t size = mantra_frames_room(&feed->frames, &room);
    if (MANTRA_UNLIKELY(size == 0)) {
        mantra_transport_fail(feed->transport, ENOMEM, "no memory for a message of this size");
        return MANTRA_EVENT_FAILED;
    }
    const bool split = feed->frames.head != feed->frames.tail || feed->frames.fragmented;
    const ptrdiff_t got = mantra_transport_receive(feed->transport, room, size);
    if (got > 0) {
        const uint64_t origin = mantra_clock_cycles(feed->clock);
        if (!split)
            feed->split_origin = 0;
        else if (!feed->split_origin)
            feed->split_origin = feed->origin;
        feed->origin = feed->heard = feed->begun = origin;
        mantra_frames_received(&feed->frames, (size_t)got);
        MANTRA_COUNT(feed, bytes, (uint64_t)got);
        mantra_ledger_set(feed->ledger, MANTRA_COUNT_last_receive_utc_ns,
                          (uint64_t)mantra_clock_utc_ns(feed->clock, origin));
        if (MANTRA_UNLIKELY(feed->stale)) {
            mantra_feed_note(feed, MANTRA_TAPE_FRESH, 0, 0, origin, NULL, 0);
            mantra_feed_fresh(feed, origin);
        }
        return mantra_feed_frames(feed);
    }
    if (got == MANTRA_AGAIN)
        return MANTRA_EVENT_NONE;
    feed->close_code = 0;
    return got == 0 ? MANTRA_EVENT_CLOSED : MANTRA_EVENT_FAILED;
}

/* Run until something needs Python, or `deadline` (cycles). */
static inline int
mantra_feed_run(mantra_feed *feed, uint64_t deadline)
{
    uint64_t timer_at = 0;
    for (;;) {
        int event = mantra_feed_service(feed);
        if (event)
            return event;
        const uint64_t now = mantra_clock_cycles(feed->clock);
        timer_at = mantra_min_u64(timer_at, feed->look_at);
        if (now >= timer_at) {
            timer_at = deadline;
            event = mantra_feed_timers(feed, now, &timer_at);
            if (event)
                return event;
            if (now >= deadline)
                return MANTRA_EVENT_DEADLINE;
        }
        const uint64_t wait_ns = timer_at > now ? mantra_clock_ns(feed->clock, timer_at - now) : 0;
        if (mantra_transport_wait(feed->transport, (int64_t)wait_ns) == 2)
            return MANTRA_EVENT_WOKEN;
    }
}

/* Many feeds on one thread: a poller tile. */
typedef struct mantra_feeds {
    mantra_poller poller;
    mantra_feed **feeds;   /* NULL where there is none (any more) */
    uint32_t count;
    uint64_t timer_at;     /* when some feed has to be looked at although nothing arrived */
    bool revisit;          /* some feed may hold bytes that epoll does not know of: a handshake, TLS or an event left them */
    _Atomic uint32_t woken;
} mantra_feeds;

#define MANTRA_FEEDS_TURN 16 /* receives of one feed before the others have their turn */

/* One feed's turn: its event, or none when it has nothing more or the others are due. */
static inline int
mantra_feeds_turn(mantra_feeds *all, mantra_feed *feed, uint32_t *which)
{
    *which = feed->index;
    for (int turn = 0; turn < MANTRA_FEEDS_TURN; turn++) {
        const int event = mantra_feed_service(feed);
        if (event)
            all->revisit = true;    /* frames behind the one that asked for Python */
        all->timer_at = mantra_min_u64(all->timer_at, feed->look_at);
        if (event || !feed->transport->more)
            return event;
    }
    all->revisit = true;
    return MANTRA_EVENT_NONE;
}

/* Have `run` come back, this one or the next. Any thread. The flag, and not only the poller's descriptor: a wake that
 * arrives together with bytes must not be lost. */
static inline void
mantra_feeds_wake(mantra_feeds *all)
{
    atomic_store_explicit(&all->woken, 1, memory_order_release);
    mantra_poller_wake(&all->poller);
}

/* Serve all feeds until one needs Python: its event, *which its index. MANTRA_EVENT_DEADLINE and MANTRA_EVENT_WOKEN are
 * nobody's in particular. */
static inline int
mantra_feeds_run(mantra_feeds *all, const mantra_clock *clock, uint64_t deadline, uint32_t *which)
{
    all->timer_at = 0; /* Python may have begun a feed, or loaded a book that is crossed */
    for (;;) {
        void *ready[MANTRA_POLLER_BATCH];
        const uint64_t now = mantra_clock_cycles(clock);
        if (now >= all->timer_at) {
            all->timer_at = deadline;
            for (uint32_t i = 0; i < all->count; i++) {
                const int event = all->feeds[i] ? mantra_feed_timers(all->feeds[i], now, &all->timer_at) : 0;
                if (event) {
                    *which = i;
                    return event;
                }
            }
        }
        if (MANTRA_UNLIKELY(all->revisit)) {
            all->revisit = false;
            for (uint32_t i = 0; i < all->count; i++) {
                const int event = all->feeds[i] ? mantra_feeds_turn(all, all->feeds[i], which) : 0;
                if (event) {
                    all->revisit = true;    /* the feeds behind this one as well */
                    return event;
                }
            }
        }
        const uint64_t until = mantra_min_u64(all->timer_at, deadline);
        const bool at_once = all->revisit || until <= now || atomic_load_explicit(&all->woken, memory_order_acquire);
        const uint64_t wait_ns = at_once ? 0 : mantra_clock_ns(clock, until - now);
        const int count = mantra_poller_wait(&all->poller, ready, MANTRA_POLLER_BATCH, (int64_t)wait_ns);
        for (int i = 0; i < count; i++) {
            const int event = mantra_feeds_turn(all, ready[i], which);
            if (event)
                return event;
        }
        /* Only now, so that who is woken all the time still reads. */
        if (atomic_exchange_explicit(&all->woken, 0, memory_order_acq_rel))
            return MANTRA_EVENT_WOKEN;
        if (now >= deadline)
            return MANTRA_EVENT_DEADLINE;
    }
}

#endif
