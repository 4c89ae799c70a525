/* ring.pml - the ring of many producers (csrc/mantra/queue.h), every interleaving at a small size, under spin.
 *
 * Sequentially consistent: what memory orders do is ordering.cpp's to say; here processes stall anywhere for as long as
 * they like, are killed between any two steps, their numbers inherited. One step is one access to shared memory, as in
 * the header, whose functions' names are kept; a message is two words, so that it can be torn.
 *
 *   -DPRODUCERS=n -DEACH=n -DCONSUMERS=n -DCAPACITY=n    producers with a number each, their messages, readers, slots
 *   -DMORTAL    producer 0 may be killed anywhere
 *   -DHEIR      producer 1 begins when producer 0 is dead or has ended, with its number
 *   -DTWIN_x    a rule is broken, which must be found
 *
 * Checked: a message read is whole, and is the one published there; what one consumer skips as a hole is never a message,
 * so all meet the same in the same order; read + lost + holes = positions passed; everybody alive comes to an end, nobody
 * waits for the dead; the living leave nothing unfinished; positions used = published + abandoned + burnt.
 * Producers burn without end while live, stalled ones hold all slots: keep CAPACITY above PRODUCERS - 1. */

#ifndef CAPACITY
#define CAPACITY 2
#endif
#ifndef PRODUCERS
#define PRODUCERS 2
#endif
#ifndef EACH
#define EACH 2
#endif
#ifndef CONSUMERS
#define CONSUMERS 1
#endif

#define POSITIONS 12
#define LAP(p) ((p) / CAPACITY + 1)
#define NOBODY 255

/* A version, in parts; one word in the header, so always read and swapped in one step. */
typedef slot_t {
    byte lap, writer;
    bool hole, writing;
    byte word[2];
};

slot_t slot[CAPACITY];
byte hint, abandoned, burnt;
byte identity[PRODUCERS] = NOBODY; /* of a number: the process that holds it */
bool dead[PRODUCERS];
bool over[PRODUCERS];              /* came through, or is dead */
byte at[POSITIONS];                /* what is published at a position, 0: nothing */
byte published;
byte found[POSITIONS];             /* what consumers found there, 0: nobody was there yet, NOBODY: a hole */
byte readers_over;

#define ALIVE(number) (identity[number] != NOBODY && !dead[identity[number]])
#define SAME(s, l, w, h, g) (slot[s].lap == l && slot[s].writer == w && slot[s].hole == h && slot[s].writing == g)
#define MINE(s) (slot[s].writing && slot[s].writer == number)
#define SET(s, l, w, h, g) slot[s].lap = l; slot[s].writer = w; slot[s].hole = h; slot[s].writing = g

/* Between any two steps a mortal producer may be no more. (Both guards read a shared variable, lest spin's partial-order
 * reduction takes the step for a private one; and two alternatives that begin with `atomic` would run on into each other.) */
#ifdef MORTAL
byte mortal = 0;
#define STEP(action) atomic { if :: mortal == me -> dead[me] = true; goto died :: mortal != NOBODY -> action fi }
#else
#define STEP(action) atomic { action }
#endif

proctype producer(byte me)
{
    byte number = me, p, lap, writer, s, n, l, message, i;
    bool hole, writing, alive, claimed;
    byte copy[2];

#ifdef HEIR
    if
    :: me == 1 ->
        (over[0]);
        number = 0; /* mantra_writers_join: free, or a dead one's */
    :: else
    fi;
#endif
    STEP(alive = (identity[number] != NOBODY); identity[number] = me);
#ifndef TWIN_NO_SWEEP
    i = 0;
    do /* mantra_queue_sweep */
    :: alive && i < CAPACITY ->
        STEP(lap = slot[i].lap; writer = slot[i].writer; hole = slot[i].hole; writing = slot[i].writing);
        if
        :: writing && writer == number ->
            STEP(
                if
                :: SAME(i, lap, writer, hole, true) ->
                    SET(i, lap, writer, true, false);
                    i++
                    /* counted in a step of its own in the header; a killed successor may leave one uncounted */
                    ;
                    abandoned = abandoned + (hole -> 0 : 1)
                :: else /* somebody burnt it or took it: look again */
                fi)
        :: else -> i++
        fi
    :: else -> break
    od;
#endif

    n = 1;
    do
    :: n <= EACH ->
        message = 16 * (me + 1) + n;
claim:  /* mantra_produce_claim */
        STEP(if :: hint > p -> p = hint :: else fi);
        do
        ::
            s = p % CAPACITY;
            l = LAP(p);
            STEP(lap = slot[s].lap; writer = slot[s].writer; hole = slot[s].hole; writing = slot[s].writing);
            if
            :: lap >= l -> /* mantra_queue_unused: behind what this slot says */
                p = (lap - 1) * CAPACITY + s + 1
            :: else ->
                alive = false;
                if
                :: writing -> STEP(alive = ALIVE(writer))
                :: else
                fi;
#ifdef TWIN_TAKE_THE_LIVING
                alive = false;
#endif
                STEP(
                    claimed = SAME(s, lap, writer, hole, writing);
                    if
                    :: claimed && alive ->
#ifdef TWIN_BURN_UNRECORDED
                        skip
#else
                        SET(s, l, writer, true, true);
                        burnt = burnt + (hole -> 1 : 2) /* in a step of its own in the header */
#endif
                    :: claimed && !alive ->
                        SET(s, l, number, false, true);
                        abandoned = abandoned + (writing && !hole -> 1 : 0)
                    :: else
                    fi);
                if
                :: claimed && alive -> p++
                :: claimed && !alive -> break
                :: else
                fi
            fi
        od;
        STEP(slot[s].word[0] = message);
        STEP(slot[s].word[1] = message);
        /* mantra_produce_settle */
        STEP(
#ifdef TWIN_SETTLE_BLINDLY
            claimed = true;
            slot[s].writing = false;
            slot[s].hole = false;
#else
            claimed = SAME(s, l, number, false, true);
            if
            :: claimed -> slot[s].writing = false
            :: else
            fi;
#endif
            if
            :: claimed -> assert(found[p] == 0); at[p] = message; published++
            :: else
            fi);
        if
        :: claimed
        :: else -> /* mantra_produce_again */
            STEP(copy[0] = slot[s].word[0]);
            STEP(copy[1] = slot[s].word[1]);
            assert(copy[0] == message && copy[1] == message);
            STEP(assert(slot[s].writing && slot[s].writer == number); slot[s].writing = false);
            goto claim
        fi;
        STEP(i = hint);
        if
        :: i <= p -> STEP(hint = p + 1) /* may go back: somebody else may have stored a later one */
        :: else
        fi;
        p++;
        n++
    :: else -> break
    od;
    STEP(assert(!MINE(0) && !MINE(1) && !MINE(CAPACITY - 1)); identity[number] = NOBODY); /* mantra_writers_leave */
died:
    over[me] = true
}

/* Nothing is published here, nor will be. */
#define SKIP assert(at[position] == 0); found[position] = NOBODY; position++; holes++

bool ended; /* nobody will produce any more */

proctype consumer()
{
    byte position, lap, writer, s, first, second, read, holes, lost, oldest;
    bool hole, writing, alive, last, same;

    do
    ::
        s = position % CAPACITY;
        atomic { last = ended; lap = slot[s].lap; writer = slot[s].writer; hole = slot[s].hole; writing = slot[s].writing };
        if
        :: lap < LAP(position) ->
            if
#ifdef TWIN_SKIP_BY_HINT
            :: hint > position -> goto skip_it /* somebody published behind it */
#endif
            :: last -> break
            :: !last -> (ended || slot[s].lap != lap) /* wait */
            fi
        :: lap > LAP(position) ->
lapped:     /* mantra_consume: the oldest safe one */
            oldest = (hint > position + CAPACITY + 1 -> hint : position + CAPACITY + 1) - (CAPACITY - 1);
            lost = lost + oldest - position;
            position = oldest
        :: lap == LAP(position) && hole ->
skip_it:    atomic { SKIP }
        :: lap == LAP(position) && !hole && writing -> /* mantra_consumer_stuck */
            atomic { alive = ALIVE(writer) };
#ifdef TWIN_SKIP_THE_LIVING
            alive = false;
#endif
            atomic {
                same = SAME(s, lap, writer, hole, writing);
#ifdef TWIN_SKIP_UNSEEN
                same = true;
#endif
                if
                :: !alive && same -> SKIP
                :: else
                fi
            };
            if
            :: alive -> (!SAME(s, lap, writer, hole, writing) || !ALIVE(writer)) /* wait */
            :: else
            fi
        :: lap == LAP(position) && !hole && !writing -> /* mantra_consumer_peek */
            first = slot[s].word[0];
            second = slot[s].word[1];
            atomic {
                same = SAME(s, lap, writer, hole, writing);
#ifdef TWIN_READ_ONCE
                same = true;
#endif
                if
                :: same ->
                    assert(first == second && first != 0);
                    assert(at[position] == first && found[position] != NOBODY);
                    found[position] = first;
                    position++;
                    read++
                :: else
                fi
            };
            if
            :: !same -> goto lapped
            :: else
            fi
        fi
    od;
    assert(read + holes + lost == position);
    readers_over++
}

init {
    byte i, used, gone;
    atomic {
        i = 0;
        do
        :: i < PRODUCERS -> run producer(i); i++
        :: else -> break
        od;
        i = 0;
        do
        :: i < CONSUMERS -> run consumer(); i++
        :: else -> break
        od
    };
    i = 0;
    do
    :: i < PRODUCERS -> (over[i]); i++
    :: else -> break
    od;
    ended = true;
    (readers_over == CONSUMERS);
    atomic {
        /* what the dead left, as its heir would count it */
        i = 0;
        do
        :: i < CAPACITY ->
            if
            :: slot[i].writing ->
                assert(!ALIVE(slot[i].writer)); /* the living leave nothing unfinished */
                abandoned = abandoned + (slot[i].hole -> 0 : 1)
            :: else
            fi;
            used = (slot[i].lap > 0 && (slot[i].lap - 1) * CAPACITY + i + 1 > used -> (slot[i].lap - 1) * CAPACITY + i + 1 : used);
            i++
        :: else -> break
        od;
        assert(used == published + abandoned + burnt);
        i = 0;
        do /* what is in the ring still is what was published there */
        :: i < CAPACITY ->
            if
            :: slot[i].lap > 0 && !slot[i].writing && !slot[i].hole ->
                assert(slot[i].word[0] == slot[i].word[1] && slot[i].word[0] == at[(slot[i].lap - 1) * CAPACITY + i])
            :: else
            fi;
            i++
        :: else -> break
        od
    }
}
