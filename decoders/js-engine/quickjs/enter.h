        /* weir: what is simple is done there, and the rest below. */
        uint64_t simple = js_run_simple(ctx, sf, pc, sp);
        pc = (uint8_t *)(uintptr_t)(simple >> 32);
        sp = (JSValue *)(uintptr_t)(uint32_t)simple;
