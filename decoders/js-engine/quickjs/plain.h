/* Reading an object of plain data where it lies: its own enumerable properties in the order of its shape, without a list of
   their names. */

/* Whether JS_GetOwnPropertyNames and JS_GetProperty would tell just what the shape and the values do: an object without
   getters, symbols, names that are ordered as numbers or beyond ASCII, and values that are objects (reading them
   may run a script, which changes this one). */
static bool plain_name(JSRuntime *rt, JSAtom atom)
{
    JSString *name;
    uint32_t i;

    if (__JS_AtomIsTaggedInt(atom))
        return false;
    name = rt->atom_array[atom];
    if (name->atom_type != JS_ATOM_TYPE_STRING || name->is_wide_char || (name->len && is_digit(str8(name)[0])))
        return false;
    for (i = 0; i < name->len; i++) {
        if (str8(name)[i] >= 0x80)
            return false;
    }
    return true;
}

/* Gives the number of places for properties, or -1 where the object is not plain. */
int weir_plain_places(JSContext *ctx, JSValueConst value)
{
    JSObject *object;
    JSShapeProperty *shape;
    int i;

    if (JS_VALUE_GET_TAG(value) != JS_TAG_OBJECT)
        return -1;
    object = JS_VALUE_GET_OBJ(value);
    if (object->class_id != JS_CLASS_OBJECT || object->is_exotic)
        return -1;
    shape = get_shape_prop(object->shape);
    for (i = 0; i < object->shape->prop_count; i++, shape++) {
        if (shape->atom != JS_ATOM_NULL
            && (shape->flags & JS_PROP_TMASK || JS_VALUE_GET_TAG(object->prop[i].u.value) == JS_TAG_OBJECT
                || !plain_name(ctx->rt, shape->atom)))
            return -1;
    }
    return object->shape->prop_count;
}

/* Gives the name and the value in a place of a plain object, both for looking at; false where none is to be told of. */
bool weir_plain_property(JSContext *ctx, JSValueConst value, int place, const uint8_t **name, uint32_t *len, JSValue *found)
{
    JSObject *object = JS_VALUE_GET_OBJ(value);
    JSShapeProperty *shape = get_shape_prop(object->shape) + place;
    JSString *text;

    if (shape->atom == JS_ATOM_NULL || !(shape->flags & JS_PROP_ENUMERABLE))
        return false;
    text = ctx->rt->atom_array[shape->atom];
    *name = str8(text);
    *len = text->len;
    *found = object->prop[place].u.value;
    return true;
}

