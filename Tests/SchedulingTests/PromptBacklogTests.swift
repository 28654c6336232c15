// How many tokens are computed before those of a prompt that comes now.

import Scheduling
import Testing

@Suite struct PromptBacklogTests {
    @Test func `a prompt waits for those it does not overtake, and for half of each step of one that it does`() {
        var backlog = PromptBacklog()
        backlog.add(tokens: 100)
        backlog.add(tokens: 8000)
        #expect(backlog.tokens == 8100)
        #expect(backlog.tokens(before: 100) == 300)
        #expect(backlog.tokens(before: 8000) == 8100)
        #expect(backlog.tokens(before: 1) == 1)
    }

    @Test func `what is taken out leaves nothing`() {
        var backlog = PromptBacklog()
        for tokens in 0..<300 { backlog.add(tokens: tokens * tokens, prompts: 1 + tokens % 3) }
        for tokens in 0..<300 { backlog.add(tokens: tokens * tokens, prompts: 1 + tokens % 3, sign: -1) }
        #expect(backlog == PromptBacklog())
    }
}
