/* A run of simple instructions: those that neither call, throw, allocate nor free.

   JS_CallInternal calls so much that the compilers keep neither its program counter nor its stack pointer in a register, and
   going on to the next instruction takes longer than most instructions. This function calls nothing, and does with the
   simple ones exactly what JS_CallInternal does. Before one that is not simple, or not with these operands, it stops;
   nothing of that one is done yet, and JS_CallInternal goes on with it. Polls are counted as there: a jump that would
   have to ask whether to go on is not simple. */

/* Whether dropping the value would free it. */
static inline bool simple_unshared(JSValue value)
{
    return JS_VALUE_HAS_REF_COUNT(value) && JS_REF_COUNT(JS_VALUE_GET_PTR(value)) <= 1;
}

/* Drops a value that others hold too. */
static inline void simple_drop(JSValue value)
{
    if (JS_VALUE_HAS_REF_COUNT(value))
        JS_REF_COUNT(JS_VALUE_GET_PTR(value))--;
}

/* Gives program counter << 32 | stack pointer of the instruction that comes next. */
static no_inline uint64_t js_run_simple(JSContext *ctx, JSStackFrame *sf, uint8_t *pc, JSValue *sp)
{
    JSObject *function = JS_VALUE_GET_OBJ(sf->cur_func);
    JSVarRef **var_refs = function->u.func.var_refs;
    JSValue *const cpool = function->u.func.function_bytecode->cpool;
    JSValue *const vars = sf->var_buf, *const args = sf->arg_buf;
    int polls = ctx->interrupt_counter;
    JSValue a, b, *place;
    double x, y;
    int64_t r;
    bool truth;

#define PUSH(value, size) { *sp++ = (value); pc += (size); break; }
#define PUT(at, size) { place = (at); a = *place; if (unlikely(simple_unshared(a))) goto out; \
        *place = *--sp; simple_drop(a); pc += (size); break; }
#define SET(at, size) { place = (at); a = *place; if (unlikely(simple_unshared(a))) goto out; \
        *place = js_dup(sp[-1]); simple_drop(a); pc += (size); break; }
#define INTS(result) { a = sp[-2]; b = sp[-1]; if (unlikely(!JS_VALUE_IS_BOTH_INT(a, b))) goto out; \
        sp[-2] = (result); sp--; pc += 1; break; }
#define COMPARE(op) { a = sp[-2]; b = sp[-1]; if (unlikely(!JS_VALUE_IS_BOTH_INT(a, b))) goto out; \
        truth = JS_VALUE_GET_INT(a) op JS_VALUE_GET_INT(b); goto compared; }

    for (;;) {
        switch (*pc) {
        case OP_push_i32: PUSH(js_int32(get_u32(pc + 1)), 5)
        case OP_push_const: PUSH(js_dup(cpool[get_u32(pc + 1)]), 5)
        case OP_push_const8: PUSH(js_dup(cpool[pc[1]]), 2)
        case OP_push_minus1: case OP_push_0: case OP_push_1: case OP_push_2: case OP_push_3:
        case OP_push_4: case OP_push_5: case OP_push_6: case OP_push_7:
            PUSH(js_int32(*pc - OP_push_0), 1)
        case OP_push_i8: PUSH(js_int32(get_i8(pc + 1)), 2)
        case OP_push_i16: PUSH(js_int32(get_i16(pc + 1)), 3)
        case OP_undefined: PUSH(JS_UNDEFINED, 1)
        case OP_null: PUSH(JS_NULL, 1)
        case OP_push_false: PUSH(JS_FALSE, 1)
        case OP_push_true: PUSH(JS_TRUE, 1)
        case OP_dup:
            a = sp[-1];
            /* A case of a switch, which leaves the stack as it is. */
            if (pc[1] == OP_push_i16 && pc[4] == OP_strict_eq && pc[5] == OP_if_false8 && JS_VALUE_GET_TAG(a) == JS_TAG_INT
                && likely(polls > 1)) {
                polls--;
                pc += JS_VALUE_GET_INT(a) == get_i16(pc + 2) ? 7 : 6 + get_i8(pc + 6);
                break;
            }
            PUSH(js_dup(a), 1)
        case OP_drop:
            a = sp[-1];
            if (unlikely(simple_unshared(a)))
                goto out;
            simple_drop(a);
            sp--;
            pc++;
            break;

        case OP_get_loc: PUSH(js_dup(vars[get_u16(pc + 1)]), 3)
        case OP_put_loc: PUT(&vars[get_u16(pc + 1)], 3)
        case OP_set_loc: SET(&vars[get_u16(pc + 1)], 3)
        case OP_get_loc8: PUSH(js_dup(vars[pc[1]]), 2)
        case OP_put_loc8: PUT(&vars[pc[1]], 2)
        case OP_set_loc8: SET(&vars[pc[1]], 2)
        case OP_get_loc0: PUSH(js_dup(vars[0]), 1)
        case OP_get_loc1: PUSH(js_dup(vars[1]), 1)
        case OP_get_loc2: PUSH(js_dup(vars[2]), 1)
        case OP_get_loc3: PUSH(js_dup(vars[3]), 1)
        case OP_put_loc0: PUT(&vars[0], 1)
        case OP_put_loc1: PUT(&vars[1], 1)
        case OP_put_loc2: PUT(&vars[2], 1)
        case OP_put_loc3: PUT(&vars[3], 1)
        case OP_set_loc0: SET(&vars[0], 1)
        case OP_set_loc1: SET(&vars[1], 1)
        case OP_set_loc2: SET(&vars[2], 1)
        case OP_set_loc3: SET(&vars[3], 1)
        case OP_get_loc0_loc1:
            sp[0] = js_dup(vars[0]);
            sp[1] = js_dup(vars[1]);
            sp += 2;
            pc++;
            break;
        case OP_get_loc_check:
            a = vars[get_u16(pc + 1)];
            if (unlikely(JS_IsUninitialized(a)))
                goto out;
            PUSH(js_dup(a), 3)
        case OP_put_loc_check:
            if (unlikely(JS_IsUninitialized(vars[get_u16(pc + 1)])))
                goto out;
            PUT(&vars[get_u16(pc + 1)], 3)
        case OP_get_arg: PUSH(js_dup(args[get_u16(pc + 1)]), 3)
        case OP_get_arg0: PUSH(js_dup(args[0]), 1)
        case OP_get_arg1: PUSH(js_dup(args[1]), 1)
        case OP_get_arg2: PUSH(js_dup(args[2]), 1)
        case OP_get_arg3: PUSH(js_dup(args[3]), 1)
        case OP_put_arg0: PUT(&args[0], 1)
        case OP_put_arg1: PUT(&args[1], 1)
        case OP_get_var_ref: PUSH(js_dup(*var_refs[get_u16(pc + 1)]->pvalue), 3)
        case OP_get_var_ref0: PUSH(js_dup(*var_refs[0]->pvalue), 1)
        case OP_get_var_ref1: PUSH(js_dup(*var_refs[1]->pvalue), 1)
        case OP_get_var_ref2: PUSH(js_dup(*var_refs[2]->pvalue), 1)
        case OP_get_var_ref3: PUSH(js_dup(*var_refs[3]->pvalue), 1)
        case OP_put_var_ref: PUT(var_refs[get_u16(pc + 1)]->pvalue, 3)
        case OP_put_var_ref0: PUT(var_refs[0]->pvalue, 1)
        case OP_put_var_ref1: PUT(var_refs[1]->pvalue, 1)
        case OP_put_var_ref2: PUT(var_refs[2]->pvalue, 1)
        case OP_put_var_ref3: PUT(var_refs[3]->pvalue, 1)
        case OP_get_var_ref_check:
            a = *var_refs[get_u16(pc + 1)]->pvalue;
            if (unlikely(JS_IsUninitialized(a)))
                goto out;
            PUSH(js_dup(a), 3)
        case OP_put_var_ref_check:
            if (unlikely(JS_IsUninitialized(*var_refs[get_u16(pc + 1)]->pvalue)))
                goto out;
            PUT(var_refs[get_u16(pc + 1)]->pvalue, 3)

        case OP_goto:
            if (unlikely(polls <= 1))
                goto out;
            polls--;
            pc += 1 + (int32_t)get_u32(pc + 1);
            break;
        case OP_goto16:
            if (unlikely(polls <= 1))
                goto out;
            polls--;
            pc += 1 + get_i16(pc + 1);
            break;
        case OP_goto8:
        loop:
            if (unlikely(polls <= 1))
                goto out;
            polls--;
            pc += 1 + get_i8(pc + 1);
            break;
        case OP_if_false8: case OP_if_true8:
            a = sp[-1];
            if (unlikely((uint32_t)JS_VALUE_GET_TAG(a) > JS_TAG_UNDEFINED || polls <= 1))
                goto out;
            polls--;
            sp--;
            pc += (JS_VALUE_GET_INT(a) != 0) == (*pc == OP_if_true8) ? 1 + get_i8(pc + 1) : 2;
            break;
        case OP_if_false: case OP_if_true:
            a = sp[-1];
            if (unlikely((uint32_t)JS_VALUE_GET_TAG(a) > JS_TAG_UNDEFINED || polls <= 1))
                goto out;
            polls--;
            sp--;
            pc += (JS_VALUE_GET_INT(a) != 0) == (*pc == OP_if_true) ? 1 + (int32_t)get_u32(pc + 1) : 5;
            break;
        case OP_lnot:
            a = sp[-1];
            if (unlikely((uint32_t)JS_VALUE_GET_TAG(a) > JS_TAG_UNDEFINED))
                goto out;
            sp[-1] = js_bool(JS_VALUE_GET_INT(a) == 0);
            pc++;
            break;
        case OP_lt: COMPARE(<)
        case OP_lte: COMPARE(<=)
        case OP_gt: COMPARE(>)
        case OP_gte: COMPARE(>=)
        case OP_eq: case OP_strict_eq: COMPARE(==)
        case OP_neq: case OP_strict_neq: COMPARE(!=)
        compared:
            /* Most often a jump comes next. */
            if (pc[1] == OP_if_false8 && likely(polls > 1)) {
                polls--;
                sp -= 2;
                pc += truth ? 3 : 2 + get_i8(pc + 2);
            } else {
                sp[-2] = js_bool(truth);
                sp--;
                pc++;
            }
            break;

        case OP_and: INTS(js_int32(JS_VALUE_GET_INT(a) & JS_VALUE_GET_INT(b)))
        case OP_or: INTS(js_int32(JS_VALUE_GET_INT(a) | JS_VALUE_GET_INT(b)))
        case OP_xor: INTS(js_int32(JS_VALUE_GET_INT(a) ^ JS_VALUE_GET_INT(b)))
        case OP_shl: INTS(js_int32((uint32_t)JS_VALUE_GET_INT(a) << (JS_VALUE_GET_INT(b) & 0x1f)))
        case OP_sar: INTS(js_int32(JS_VALUE_GET_INT(a) >> (JS_VALUE_GET_INT(b) & 0x1f)))
        case OP_shr: INTS(js_uint32((uint32_t)JS_VALUE_GET_INT(a) >> (JS_VALUE_GET_INT(b) & 0x1f)))
        case OP_add:
            a = sp[-2];
            b = sp[-1];
            if (likely(JS_VALUE_IS_BOTH_INT(a, b)))
                a = js_int64((int64_t)JS_VALUE_GET_INT(a) + JS_VALUE_GET_INT(b));
            else if (js_arith_to_float64(a, &x) && js_arith_to_float64(b, &y))
                a = js_float64(x + y);
            else
                goto out;
            goto calculated;
        case OP_sub:
            a = sp[-2];
            b = sp[-1];
            if (likely(JS_VALUE_IS_BOTH_INT(a, b)))
                a = js_int64((int64_t)JS_VALUE_GET_INT(a) - JS_VALUE_GET_INT(b));
            else if (js_arith_to_float64(a, &x) && js_arith_to_float64(b, &y))
                a = js_float64(x - y);
            else
                goto out;
            goto calculated;
        case OP_mul:
            a = sp[-2];
            b = sp[-1];
            if (likely(JS_VALUE_IS_BOTH_INT(a, b))) {
                r = (int64_t)JS_VALUE_GET_INT(a) * JS_VALUE_GET_INT(b);
                a = unlikely(r == 0 && (JS_VALUE_GET_INT(a) | JS_VALUE_GET_INT(b)) < 0) ? js_float64(-0.0) : js_int64(r);
            } else if (js_arith_to_float64(a, &x) && js_arith_to_float64(b, &y))
                a = js_float64(x * y);
            else
                goto out;
            goto calculated;
        case OP_div:
            a = sp[-2];
            b = sp[-1];
            if (!js_arith_to_float64(a, &x) || !js_arith_to_float64(b, &y))
                goto out;
            a = js_number(x / y);
        calculated:
            sp[-2] = a;
            sp--;
            pc++;
            break;
        case OP_inc:
            a = sp[-1];
            if (unlikely(JS_VALUE_GET_TAG(a) != JS_TAG_INT || JS_VALUE_GET_INT(a) == INT32_MAX))
                goto out;
            sp[-1] = js_int32(JS_VALUE_GET_INT(a) + 1);
            pc++;
            break;
        case OP_post_inc:
            a = sp[-1];
            if (unlikely(JS_VALUE_GET_TAG(a) != JS_TAG_INT || JS_VALUE_GET_INT(a) == INT32_MAX))
                goto out;
            PUSH(js_int32(JS_VALUE_GET_INT(a) + 1), 1)
        case OP_inc_loc:
            a = vars[pc[1]];
            if (unlikely(JS_VALUE_GET_TAG(a) != JS_TAG_INT || JS_VALUE_GET_INT(a) == INT32_MAX))
                goto out;
            vars[pc[1]] = js_int32(JS_VALUE_GET_INT(a) + 1);
            pc += 2;
            if (*pc != OP_goto8)
                break;
            goto loop;
        case OP_dec_loc:
            a = vars[pc[1]];
            if (unlikely(JS_VALUE_GET_TAG(a) != JS_TAG_INT || JS_VALUE_GET_INT(a) == INT32_MIN))
                goto out;
            vars[pc[1]] = js_int32(JS_VALUE_GET_INT(a) - 1);
            pc += 2;
            if (*pc != OP_goto8)
                break;
            goto loop;
        case OP_add_loc:
            a = vars[pc[1]];
            b = sp[-1];
            if (unlikely(!JS_VALUE_IS_BOTH_INT(a, b)))
                goto out;
            vars[pc[1]] = js_int64((int64_t)JS_VALUE_GET_INT(a) + JS_VALUE_GET_INT(b));
            sp--;
            pc += 2;
            break;

        case OP_get_array_el: {
            JSObject *array;
            a = sp[-2];
            b = sp[-1];
            if (unlikely(JS_VALUE_GET_TAG(a) != JS_TAG_OBJECT || JS_VALUE_GET_TAG(b) != JS_TAG_INT || simple_unshared(a)))
                goto out;
            array = JS_VALUE_GET_OBJ(a);
            if (unlikely(array->class_id != JS_CLASS_ARRAY || (uint32_t)JS_VALUE_GET_INT(b) >= array->u.array.count))
                goto out;
            sp[-2] = js_dup(array->u.array.u.values[JS_VALUE_GET_INT(b)]);
            simple_drop(a);
            sp--;
            pc++;
            break;
        }
        case OP_get_length: case OP_get_field: {
            JSProperty *property;
            JSShapeProperty *shape;
            JSAtom atom = *pc == OP_get_length ? JS_ATOM_length : get_u32(pc + 1);
            a = sp[-1];
            if (unlikely(JS_VALUE_GET_TAG(a) != JS_TAG_OBJECT || simple_unshared(a)))
                goto out;
            shape = find_own_property(&property, JS_VALUE_GET_OBJ(a), atom);
            if (unlikely(!shape || shape->flags & JS_PROP_TMASK))
                goto out;
            sp[-1] = js_dup(property->u.value);
            simple_drop(a);
            pc += *pc == OP_get_length ? 1 : 5;
            break;
        }
        default:
            goto out;
        }
    }
out:
    ctx->interrupt_counter = polls;
    return (uint64_t)(uintptr_t)pc << 32 | (uintptr_t)sp;
#undef PUSH
#undef PUT
#undef SET
#undef INTS
#undef COMPARE
}
