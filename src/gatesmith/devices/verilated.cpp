// One emulated board: the firmware's top, its clock, and a UART on its two wires, behind a small C interface.
//
// Time is the board's own: a call runs as many clock cycles as it needs. Bytes to the board wait in a queue and go on
// the line back to back; bytes from the board are sampled in the middle of each bit.

#include <cstdint>
#include <deque>
#include <memory>

#include "Vtop.h"
#ifdef PREVIOUS_CLOCK
#include "Vtop___024root.h"
#endif
#include "verilated.h"

#ifdef ONE_TRIGGER
void Vtop___024root___eval_nba(Vtop___024root*);
#endif

namespace {

class Board {
   public:
    explicit Board(uint32_t divisor) : divisor_(divisor), top_(new Vtop(&context_)) {
        top_->clk = 0;
        top_->rx = 1;
        top_->eval();
#ifdef ONE_TRIGGER
        top_->rootp->__VnbaTriggered[0] = 1;
#endif
        uint8_t ignored = 0;
        for (int i = 0; i != 64; ++i) turn(&ignored);  // the board has been on for a while
    }

    ~Board() { top_->final(); }

    void write(const uint8_t* data, uint64_t size) { queue_.insert(queue_.end(), data, data + size); }

    // Run until `size` bytes have come, or until the line has been silent in both directions for `quiet` cycles.
    uint64_t read(uint8_t* data, uint64_t size, uint64_t quiet) {
        const uint8_t* const end = data + size;
        uint8_t* next = data;
        uint64_t active = cycles_;
        while (next != end && cycles_ - active < quiet) {
            if (drive()) active = cycles_;
            // A received byte ends well before the bit time does, so at most one comes in each turn.
            if (turn(next)) {
                ++next;
                active = cycles_;
            }
        }
        return next - data;
    }

    uint64_t cycles() const { return cycles_; }

   private:
    // Put the next bit on the board's input; true while there is one.
    bool drive() {
        if (!pending_) {
            if (queue_.empty()) {
                top_->rx = 1;
                return false;
            }
            pending_ = 0x600u | uint32_t(queue_.front()) << 1;  // guard, stop, data, start
            queue_.pop_front();
        }
        top_->rx = pending_ & 1;
        pending_ >>= 1;
        if (pending_ == 1) pending_ = 0;
        return true;
    }

    // One bit time; true when a byte was completed, and then it is in `*byte`.
    bool turn(uint8_t* byte) {
        bool complete = false;
        for (uint32_t i = 0; i != divisor_; ++i) {
            tick();
            if (!countdown_) {
                if (!top_->tx) {
                    countdown_ = divisor_ + divisor_ / 2;
                    shift_ = 0x100;
                }
            } else if (!--countdown_) {
                countdown_ = divisor_;
                if (shift_ & 1) {  // the guard came through: this is the stop bit
                    countdown_ = 0;
                    *byte = uint8_t(shift_ >> 1);
                    complete = top_->tx;
                } else {
                    shift_ = shift_ >> 1 | uint32_t(top_->tx) << 8;
                }
            }
        }
        cycles_ += divisor_;
        return complete;
    }

    void tick() {
#if defined(ONE_TRIGGER)
        // All that the model does is to answer a rising edge: tell it of one, without a search for what happened.
        Vtop___024root___eval_nba(top_->rootp);
#elif defined(PREVIOUS_CLOCK)
        top_->clk = 1;
        top_->eval();
        top_->clk = 0;
        // Nothing acts on the falling edge: only tell the model that there was one.
        top_->rootp->PREVIOUS_CLOCK = 0;
#else
        top_->clk = 1;
        top_->eval();
        top_->clk = 0;
        top_->eval();
#endif
    }

    const uint32_t divisor_;
    VerilatedContext context_;
    std::unique_ptr<Vtop> top_;
    std::deque<uint8_t> queue_;
    uint64_t cycles_ = 0;
    uint32_t pending_ = 0, countdown_ = 0, shift_ = 0;
};

}  // namespace

extern "C" {
#define EXPORT __attribute__((visibility("default")))
EXPORT Board* board_open(uint32_t divisor) { return new Board(divisor); }
EXPORT void board_close(Board* board) { delete board; }
EXPORT void board_write(Board* board, const uint8_t* data, uint64_t size) { board->write(data, size); }
EXPORT uint64_t board_read(Board* board, uint8_t* data, uint64_t size, uint64_t quiet) {
    return board->read(data, size, quiet);
}
EXPORT uint64_t board_cycles(const Board* board) { return board->cycles(); }
}
