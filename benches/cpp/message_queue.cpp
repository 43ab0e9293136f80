// Boost's message queue by name, behind plain functions. What it throws becomes a text and a null or a false.

#if !__has_include(<boost/interprocess/ipc/message_queue.hpp>)
#error "expected the headers of Boost: install the package libboost-dev, or build without the feature peers-cpp"
#endif

#include <boost/interprocess/ipc/message_queue.hpp>

#include <cstddef>
#include <cstring>
#include <exception>

using boost::interprocess::message_queue;

namespace {

struct Text {
    char *start;
    std::size_t bytes;

    void say(const char *what) const noexcept {
        std::strncpy(start, what, bytes - 1);
        start[bytes - 1] = 0;
    }
};

template <typename Result, typename Body>
Result guarded(char *text, std::size_t bytes, Body body) noexcept {
    try {
        return body();
    } catch (const std::exception &error) {
        Text{text, bytes}.say(error.what());
    } catch (...) {
        Text{text, bytes}.say("something unknown was thrown");
    }
    return Result();
}

} // namespace

extern "C" {

void *benches_boost_queue_create(const char *name, std::size_t messages, std::size_t longest, char *text,
                                 std::size_t bytes) noexcept {
    return guarded<void *>(text, bytes, [&]() -> void * {
        return new message_queue(boost::interprocess::create_only, name, messages, longest);
    });
}

void *benches_boost_queue_open(const char *name, char *text, std::size_t bytes) noexcept {
    return guarded<void *>(text, bytes, [&]() -> void * {
        return new message_queue(boost::interprocess::open_only, name);
    });
}

void benches_boost_queue_close(void *queue) noexcept { delete static_cast<message_queue *>(queue); }

bool benches_boost_queue_remove(const char *name) noexcept { return message_queue::remove(name); }

bool benches_boost_queue_send(void *queue, const void *from, std::size_t count, char *text,
                              std::size_t bytes) noexcept {
    return guarded<bool>(text, bytes, [&] {
        static_cast<message_queue *>(queue)->send(from, count, 0);
        return true;
    });
}

bool benches_boost_queue_receive(void *queue, void *to, std::size_t room, std::size_t *count, char *text,
                                 std::size_t bytes) noexcept {
    return guarded<bool>(text, bytes, [&] {
        message_queue::size_type received = 0;
        unsigned priority = 0;
        static_cast<message_queue *>(queue)->receive(to, room, received, priority);
        *count = received;
        return true;
    });
}

}
