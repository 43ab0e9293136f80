// Queues of C++ libraries behind tables of plain functions, for messages of as many words as the benches use.
//
// Each operation is one call that the compiler of the other side cannot look into; that is the whole cost of the border.

#if !__has_include(<boost/lockfree/spsc_queue.hpp>)
#error "expected the headers of Boost: install the package libboost-dev, or build without the feature peers-cpp"
#endif
#if !__has_include(<readerwriterqueue/readerwriterqueue.h>)
#error "expected readerwriterqueue: install the package libreaderwriterqueue-dev, or build without the feature peers-cpp"
#endif
#if !__has_include(<concurrentqueue/concurrentqueue.h>)
#error "expected concurrentqueue: install the package libconcurrentqueue-dev, or build without the feature peers-cpp"
#endif

#include <boost/lockfree/spsc_queue.hpp>
#include <concurrentqueue/concurrentqueue.h>
#include <readerwriterqueue/readerwriterqueue.h>

#include <cstddef>
#include <cstdint>
#include <new>

namespace {

constexpr std::size_t capacity = 1024;

template <std::size_t words>
struct Message {
    std::uint64_t word[words];
};

// As `Calls` in cpp.rs.
struct Calls {
    std::size_t bytes;
    std::size_t align;
    void (*make)(void *place, std::size_t producers);
    void (*end)(void *place);
    // A handle for a producer of its own; null where none is needed.
    void *(*producer)(void *place);
    void (*end_producer)(void *handle);
    bool (*push)(void *place, void *handle, const std::uint64_t *from);
    bool (*pop)(void *place, std::uint64_t *to);
    std::size_t (*push_batch)(void *place, void *handle, const std::uint64_t *from, std::size_t count);
    std::size_t (*pop_batch)(void *place, std::uint64_t *to, std::size_t count);
    std::size_t (*about)(void *place);
};

void *no_producer(void *) noexcept { return nullptr; }
void end_no_producer(void *) noexcept {}
std::size_t unknown(void *) noexcept { return 0; }

template <std::size_t words>
struct BoostSpsc {
    using Item = Message<words>;
    using Queue = boost::lockfree::spsc_queue<Item, boost::lockfree::capacity<capacity>>;

    static void make(void *place, std::size_t) noexcept { new (place) Queue(); }
    static void end(void *place) noexcept { static_cast<Queue *>(place)->~Queue(); }
    static bool push(void *place, void *, const std::uint64_t *from) noexcept {
        return static_cast<Queue *>(place)->push(*reinterpret_cast<const Item *>(from));
    }
    static bool pop(void *place, std::uint64_t *to) noexcept {
        return static_cast<Queue *>(place)->pop(*reinterpret_cast<Item *>(to));
    }
    static std::size_t push_batch(void *place, void *, const std::uint64_t *from, std::size_t count) noexcept {
        return static_cast<Queue *>(place)->push(reinterpret_cast<const Item *>(from), count);
    }
    static std::size_t pop_batch(void *place, std::uint64_t *to, std::size_t count) noexcept {
        return static_cast<Queue *>(place)->pop(reinterpret_cast<Item *>(to), count);
    }

    static constexpr Calls calls = {
        sizeof(Queue), alignof(Queue), make, end, no_producer, end_no_producer, push, pop, push_batch, pop_batch, unknown,
    };
};

template <std::size_t words>
struct ReaderWriter {
    using Item = Message<words>;
    using Queue = moodycamel::ReaderWriterQueue<Item>;

    static void make(void *place, std::size_t) noexcept { new (place) Queue(capacity); }
    static void end(void *place) noexcept { static_cast<Queue *>(place)->~Queue(); }
    static bool push(void *place, void *, const std::uint64_t *from) noexcept {
        return static_cast<Queue *>(place)->try_enqueue(*reinterpret_cast<const Item *>(from));
    }
    static bool pop(void *place, std::uint64_t *to) noexcept {
        return static_cast<Queue *>(place)->try_dequeue(*reinterpret_cast<Item *>(to));
    }
    // It has no batches.
    static std::size_t push_batch(void *place, void *handle, const std::uint64_t *from, std::size_t count) noexcept {
        return count > 0 && push(place, handle, from) ? 1 : 0;
    }
    static std::size_t pop_batch(void *place, std::uint64_t *to, std::size_t count) noexcept {
        return count > 0 && pop(place, to) ? 1 : 0;
    }

    static constexpr Calls calls = {
        sizeof(Queue), alignof(Queue), make, end, no_producer, end_no_producer, push, pop, push_batch, pop_batch, unknown,
    };
};

template <std::size_t words>
struct Concurrent {
    using Item = Message<words>;

    // With the consumer's token, which one thread uses.
    struct Queue {
        moodycamel::ConcurrentQueue<Item> queue;
        moodycamel::ConsumerToken token;

        explicit Queue(std::size_t producers) : queue(capacity, producers, 0), token(queue) {}
    };

    static void make(void *place, std::size_t producers) noexcept { new (place) Queue(producers); }
    static void end(void *place) noexcept { static_cast<Queue *>(place)->~Queue(); }
    static void *producer(void *place) noexcept {
        return new moodycamel::ProducerToken(static_cast<Queue *>(place)->queue);
    }
    static void end_producer(void *handle) noexcept { delete static_cast<moodycamel::ProducerToken *>(handle); }
    static bool push(void *place, void *handle, const std::uint64_t *from) noexcept {
        auto &token = *static_cast<moodycamel::ProducerToken *>(handle);
        return static_cast<Queue *>(place)->queue.enqueue(token, *reinterpret_cast<const Item *>(from));
    }
    static bool pop(void *place, std::uint64_t *to) noexcept {
        auto *queue = static_cast<Queue *>(place);
        return queue->queue.try_dequeue(queue->token, *reinterpret_cast<Item *>(to));
    }
    static std::size_t push_batch(void *place, void *handle, const std::uint64_t *from, std::size_t count) noexcept {
        auto &token = *static_cast<moodycamel::ProducerToken *>(handle);
        auto *items = reinterpret_cast<const Item *>(from);
        return static_cast<Queue *>(place)->queue.enqueue_bulk(token, items, count) ? count : 0;
    }
    static std::size_t pop_batch(void *place, std::uint64_t *to, std::size_t count) noexcept {
        auto *queue = static_cast<Queue *>(place);
        return queue->queue.try_dequeue_bulk(queue->token, reinterpret_cast<Item *>(to), count);
    }
    static std::size_t about(void *place) noexcept { return static_cast<Queue *>(place)->queue.size_approx(); }

    static constexpr Calls calls = {
        sizeof(Queue), alignof(Queue), make, end, producer, end_producer, push, pop, push_batch, pop_batch, about,
    };
};

template <template <std::size_t> class Peer>
const Calls *of_words(std::size_t words) noexcept {
    switch (words) {
    case 1:
        return &Peer<1>::calls;
    case 8:
        return &Peer<8>::calls;
    case 128:
        return &Peer<128>::calls;
    default:
        return nullptr;
    }
}

} // namespace

extern "C" {

// Null where messages of so many words were not compiled.
const Calls *benches_boost_spsc(std::size_t words) noexcept { return of_words<BoostSpsc>(words); }
const Calls *benches_reader_writer(std::size_t words) noexcept { return of_words<ReaderWriter>(words); }
const Calls *benches_concurrent(std::size_t words) noexcept { return of_words<Concurrent>(words); }

}
