//! Runs every model.

use nginx_sse_loom::hub::models;

/// Names each model and its module: a test for each.
macro_rules! models {
    ($($module:ident: $($name:ident)+;)*) => {
        $($(
            #[test]
            fn $name() {
                models::$module::$name();
            }
        )+)*
    };
}

models! {
    ring:
        an_event_up_to_the_head_is_read_whole
        an_overwritten_entry_names_its_own_event_or_none
        a_copy_of_an_expired_event_is_whole_or_discarded;
    wakeup:
        a_process_is_woken_or_sees_the_event
        one_of_two_publishers_wakes_a_process_for_what_it_has_not_seen;
    slot:
        a_death_is_noticed_once
        a_released_slot_has_one_new_process;
}
